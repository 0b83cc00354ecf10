//! What a scenario is there to hold.

use serde::Deserialize;

use crate::measure::PolicyOutcome;
use crate::scenario::PolicyName;

/// A figure of `feedback`, and what it should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Which figure.
    pub figure: Figure,
    /// At most this; of [`Figure::Quiet`], at least.
    pub limit: f64,
}

/// Something that a run is judged by, as the table calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Largest over mean utilisation, in the mean over time.
    Mean,
    /// The same for 99 % of the time.
    #[serde(rename = "p99")]
    P99,
    /// Its mean in the first half-minute after the last event.
    FirstHalfMinute,
    /// In the first minute.
    FirstMinute,
    /// After that.
    Then,
    /// The mean, less that of `static`, which is in the scenario's policies.
    AboveStatic,
    /// The largest utilisation of any backend.
    Worst,
    /// Seconds to the own steady value.
    Settle,
    /// Seconds until below 1.15.
    Level,
    /// Share of the ticks without a list, 0 to 1.
    Quiet,
    /// Share of the requests that failed, 0 to 1.
    Failed,
    /// The most that went to those that lie or fail, in mean shares.
    Offenders,
    /// The same from a minute after that began.
    OffendersThen,
}

/// How a bar was met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The bar.
    pub bar: Bar,
    /// The figure, in the mean over the seeds.
    pub mean: f64,
    /// That of the worst seed.
    pub worst: f64,
    /// In how many seeds it was met, and how many there are.
    pub seeds: (usize, usize),
    /// Of [`Figure::Failed`]: how many requests failed, of how many in all seeds.
    pub requests: Option<(f64, f64)>,
}

impl Bar {
    /// Whether this figure is good enough.
    #[must_use]
    pub fn allows(&self, figure: f64) -> bool {
        match self.figure {
            Figure::Quiet => figure >= self.limit,
            _ => figure <= self.limit,
        }
    }
}

impl Figure {
    /// Every figure.
    pub const ALL: [Self; 13] = [
        Self::Mean,
        Self::P99,
        Self::FirstHalfMinute,
        Self::FirstMinute,
        Self::Then,
        Self::AboveStatic,
        Self::Worst,
        Self::Settle,
        Self::Level,
        Self::Quiet,
        Self::Failed,
        Self::Offenders,
        Self::OffendersThen,
    ];

    /// Its name in scenarios.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::P99 => "p99",
            Self::FirstHalfMinute => "first_half_minute",
            Self::FirstMinute => "first_minute",
            Self::Then => "then",
            Self::AboveStatic => "above_static",
            Self::Worst => "worst",
            Self::Settle => "settle",
            Self::Level => "level",
            Self::Quiet => "quiet",
            Self::Failed => "failed",
            Self::Offenders => "offenders",
            Self::OffendersThen => "offenders_then",
        }
    }

    /// Of `run`, all whose policies are `all`; what never came is infinite.
    fn of(self, run: &PolicyOutcome, all: &[PolicyOutcome]) -> f64 {
        let figure = match self {
            Self::Mean => Some(run.mean_max_over_avg),
            Self::P99 => Some(run.max_over_avg),
            Self::FirstHalfMinute => run.first_half_minute,
            Self::FirstMinute => run.after_event.map(|(first, _)| first),
            Self::Then => run.after_event.map(|(_, then)| then),
            Self::AboveStatic => {
                let oracle = all.iter().find(|o| o.policy == PolicyName::Static.as_str());
                oracle.map(|oracle| run.mean_max_over_avg - oracle.mean_max_over_avg)
            }
            Self::Worst => Some(run.worst_utilization),
            Self::Settle => run.resettle_s,
            Self::Level => run.level_s,
            Self::Quiet => Some(run.quiet_ticks),
            Self::Failed => Some(run.failed_share),
            Self::Offenders => run.offenders.map(|(most, _)| most),
            Self::OffendersThen => run.offenders.map(|(_, later)| later),
        };
        figure.unwrap_or(f64::INFINITY)
    }
}

impl Verdict {
    /// Whether the bar is met in the mean.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.bar.allows(self.mean)
    }
}

/// Holds the runs of a scenario, one a seed, against its bars; none if `feedback`
/// did not run.
#[must_use]
pub fn judge(bars: &[Bar], seeds: &[Vec<PolicyOutcome>]) -> Vec<Verdict> {
    let verdict = |bar: &Bar| {
        let feedback = PolicyName::Feedback.as_str();
        let runs = seeds.iter().filter_map(|all| {
            let run = all.iter().find(|outcome| outcome.policy == feedback)?;
            Some((run, all))
        });
        let figures = runs.clone().map(|(run, all)| bar.figure.of(run, all));
        let figures: Vec<f64> = figures.collect();
        let requests = runs.fold((0.0, 0.0), |(failed, all), (run, _)| {
            (failed + run.failed.0, all + run.failed.1)
        });
        let worse = match bar.figure {
            Figure::Quiet => f64::min,
            _ => f64::max,
        };
        let worst = figures.iter().copied().reduce(worse)?;
        Some(Verdict {
            bar: *bar,
            mean: figures.iter().sum::<f64>() / figures.len() as f64,
            worst,
            seeds: (
                figures.iter().filter(|figure| bar.allows(**figure)).count(),
                figures.len(),
            ),
            requests: (bar.figure == Figure::Failed).then_some(requests),
        })
    };
    bars.iter().filter_map(verdict).collect()
}
