//! A picture of utilisation over time, as SVG.

use std::fmt::Write as _;

use crate::measure::{Point, PolicyOutcome};
use crate::scenario::Scenario;

const WIDTH: f64 = 900.0;
const PANEL: f64 = 170.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 30.0;
const GAP: f64 = 34.0;

/// Points of a line; more would be finer than the picture.
const POINTS: usize = 180;

/// Draws the outcomes of a scenario one above the other: the mean, the band that
/// eight of ten backends are in, and the least and the most of any.
#[must_use]
pub fn plot(scenario: &Scenario, outcomes: &[PolicyOutcome]) -> String {
    let height = TOP + outcomes.len() as f64 * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{}: utilisation of {} backends</text>\n\
         <text x=\"{}\" y=\"18\" text-anchor=\"end\" fill=\"#555\">\
         mean, 10th to 90th percentile, least and most</text>\n",
        escaped(&scenario.name),
        scenario.backends,
        WIDTH - RIGHT,
    );
    let end = scenario.duration.as_secs_f64();
    let most = outcomes.iter().flat_map(|o| &o.picture).map(|p| p.most);
    let top = (most.fold(0.0, f64::max) * 10.0).ceil().max(1.0) / 10.0;
    for (index, outcome) in outcomes.iter().enumerate() {
        let panel = Panel {
            y: TOP + index as f64 * (PANEL + GAP),
            end,
            top,
        };
        panel.draw(&mut svg, scenario, outcome);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where a policy is drawn.
struct Panel {
    y: f64,
    end: f64,
    top: f64,
}

impl Panel {
    fn draw(&self, svg: &mut String, scenario: &Scenario, outcome: &PolicyOutcome) {
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.1}\">{} · max/avg {:.3}</text>",
            self.y + 14.0,
            outcome.policy,
            outcome.mean_max_over_avg
        );
        self.axes(svg);
        for event in &scenario.events {
            let x = self.x(event.at.as_secs_f64());
            let (high, low) = (self.y_of(self.top), self.y_of(0.0));
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {high:.1}V{low:.1}\" stroke=\"#c60\" stroke-dasharray=\"3 3\"/>"
            );
        }
        let step = outcome.picture.len().div_ceil(POINTS).max(1);
        let points: Vec<&Point> = outcome.picture.iter().step_by(step).collect();
        self.band(svg, &points, |p| (p.least, p.most), "#cfe0f5");
        self.band(svg, &points, |p| (p.low, p.high), "#7fb0e6");
        let mean = points.iter().map(|p| self.pair(p.at, p.mean));
        let mean: Vec<String> = mean.collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#123\"/>",
            mean.join(" ")
        );
    }

    fn axes(&self, svg: &mut String) {
        let lines = (self.top * 5.0).round() as u32;
        for line in 0..=lines {
            let value = f64::from(line) * 0.2;
            let y = self.y_of(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{value:.1}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0
            );
        }
        for tick in 0..=6 {
            let at = self.end * f64::from(tick) / 6.0;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{at:.0} s</text>",
                self.x(at),
                self.y_of(0.0) + 14.0
            );
        }
    }

    fn band(
        &self,
        svg: &mut String,
        points: &[&Point],
        of: impl Fn(&Point) -> (f64, f64),
        colour: &str,
    ) {
        let low = points.iter().map(|p| self.pair(p.at, of(p).0));
        let high = points.iter().rev().map(|p| self.pair(p.at, of(p).1));
        let outline: Vec<String> = low.chain(high).collect();
        let _ = writeln!(
            svg,
            "<polygon points=\"{}\" fill=\"{colour}\"/>",
            outline.join(" ")
        );
    }

    fn pair(&self, at: f64, value: f64) -> String {
        format!("{:.1},{:.1}", self.x(at), self.y_of(value))
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * at / self.end
    }

    fn y_of(&self, value: f64) -> f64 {
        self.y + 22.0 + (PANEL - 22.0) * (1.0 - value / self.top)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
