//! How a scenario is written in TOML.

use std::time::Duration;

use super::bars::{Bar, Figure};
use super::scenario::{Event, EventKind, PolicyName, Reporting, Scenario};
use crate::config::{
    ConfigErrors, Faults, MILLISECOND, Node, Table, list, parse_document, read_overload,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A day is long enough for a simulation.
const LONGEST: Duration = Duration::from_secs(86_400);

impl Scenario {
    /// Reads a scenario. `file` is only for messages.
    ///
    /// # Errors
    /// Every fault with its line, and what would be right.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigErrors> {
        parse_document(text, file, read)
    }
}

fn read(mut table: Table<'_>, faults: &mut Faults) -> Scenario {
    let mut scenario = Scenario::default();
    if let Some(name) = table.take("name").and_then(|n| n.text(faults, "\"full\"")) {
        name.clone_into(&mut scenario.name);
    }
    let largest = (1u64 << 53) as f64;
    let seed = whole(&mut table, "seed", (0.0, largest), "7", faults);
    scenario.seed = seed.map_or(scenario.seed, |seed| seed as u64);
    let s = Duration::from_secs;
    time(
        &mut table,
        "duration",
        &mut scenario.duration,
        (s(60), LONGEST),
        faults,
    );
    let backends = whole(&mut table, "backends", (2.0, 5000.0), "100", faults);
    scenario.backends = backends.map_or(scenario.backends, |n| n as usize);
    number(
        &mut table,
        "capacity_sigma",
        &mut scenario.capacity_sigma,
        (0.0, 2.0),
        faults,
    );
    number(
        &mut table,
        "request_cost_cv",
        &mut scenario.request_cost_cv,
        (0.0, 10.0),
        faults,
    );
    number(
        &mut table,
        "load",
        &mut scenario.load,
        (0.001, 10.0),
        faults,
    );
    number(
        &mut table,
        "diurnal",
        &mut scenario.diurnal,
        (0.0, 0.9),
        faults,
    );
    number(
        &mut table,
        "subset_skew_sigma",
        &mut scenario.subset_skew_sigma,
        (0.0, 2.0),
        faults,
    );
    let clients = whole(&mut table, "clients", (1.0, 10_000.0), "200", faults);
    scenario.clients = clients.map_or(scenario.clients, |n| n as usize);
    number(
        &mut table,
        "client_sigma",
        &mut scenario.client_sigma,
        (0.0, 2.0),
        faults,
    );
    let subset = whole(&mut table, "subset", (0.0, 5000.0), "20", faults);
    scenario.subset = subset.map_or(scenario.subset, |n| n as usize);
    number(
        &mut table,
        "rate",
        &mut scenario.rate,
        (0.1, 100_000.0),
        faults,
    );
    time(
        &mut table,
        "push_delay",
        &mut scenario.push_delay,
        (s(0), HOUR),
        faults,
    );
    if let Some(node) = table.take("report") {
        read_reporting(&node, &mut scenario.report, faults);
    }
    if let Some(node) = table.take("overload") {
        scenario.overload = read_overload(&node, None, faults);
    }
    if let Some(node) = table.take("policies") {
        scenario.policies = read_policies(&node, faults);
    }
    if let Some(node) = table.take("bar") {
        scenario.bars = read_bars(&node, faults);
    }
    if let Some(node) = table.take("event") {
        let events = node.array(faults, "[[event]]").unwrap_or_default();
        let events = events.iter().filter_map(|node| read_event(node, faults));
        scenario.events = events.collect();
        scenario.events.sort_by_key(|event| event.at);
    }
    table.finish(faults, &[]);
    scenario
}

fn read_reporting(node: &Node<'_>, report: &mut Reporting, faults: &mut Faults) {
    let Some(mut table) = node.table(faults, "{ interval = \"5s\", jitter = 0.2 }") else {
        return;
    };
    let least = Duration::from_millis(100);
    time(
        &mut table,
        "interval",
        &mut report.interval,
        (least, HOUR),
        faults,
    );
    number(&mut table, "jitter", &mut report.jitter, (0.0, 0.9), faults);
    number(&mut table, "loss", &mut report.loss, (0.0, 1.0), faults);
    time(
        &mut table,
        "delay",
        &mut report.delay,
        (Duration::ZERO, HOUR),
        faults,
    );
    let qps = table.take("qps");
    let qps = qps.and_then(|node| node.boolean(faults, "false"));
    report.qps = qps.unwrap_or(report.qps);
    let windows = (Duration::ZERO, HOUR);
    time(&mut table, "window", &mut report.window, windows, faults);
    let told = &mut report.load_window;
    time(&mut table, "load_window", told, windows, faults);
    table.finish(faults, &[]);
}

fn read_bars(node: &Node<'_>, faults: &mut Faults) -> Vec<Bar> {
    let mut bars = Vec::new();
    if let Some(mut table) = node.table(faults, "{ mean = 1.12 }") {
        for figure in Figure::ALL {
            let mut limit = 0.0;
            let written = table.has(figure.as_str());
            number(&mut table, figure.as_str(), &mut limit, (0.0, 1e6), faults);
            bars.extend(written.then_some(Bar { figure, limit }));
        }
        table.finish(faults, &[]);
    }
    bars
}

fn read_policies(node: &Node<'_>, faults: &mut Faults) -> Vec<PolicyName> {
    let example = "[\"round_robin\", \"feedback\"]";
    let mut policies = Vec::new();
    for node in node.array(faults, example).unwrap_or_default() {
        let Some(name) = node.text(faults, "\"feedback\"") else {
            continue;
        };
        let found = PolicyName::ALL.into_iter().find(|p| p.as_str() == name);
        match found {
            Some(policy) => policies.push(policy),
            None => {
                let known = list(PolicyName::ALL.map(PolicyName::as_str));
                faults.wrong(
                    &node.place,
                    format!("there is no policy `{name}`; there are {known}"),
                );
            }
        }
    }
    policies
}

fn read_event(node: &Node<'_>, faults: &mut Faults) -> Option<Event> {
    let mut table = node.table(faults, "[[event]]")?;
    let mut at = Duration::ZERO;
    if let Some(node) = table.require("at", faults, "\"900s\"") {
        at = node.duration(faults, "\"900s\"", (Duration::ZERO, LONGEST), MILLISECOND)?;
    }
    let kind = table.require("kind", faults, "\"slow\"");
    let kind = kind.and_then(|node| {
        let name = node.text(faults, "\"slow\"")?;
        let kind = EventKind::ALL.into_iter().find(|k| k.as_str() == name);
        if kind.is_none() {
            let known = list(EventKind::ALL.map(EventKind::as_str));
            faults.wrong(
                &node.place,
                format!("there is no event `{name}`; there are {known}"),
            );
        }
        kind
    });
    let mut share = 1.0;
    number(&mut table, "share", &mut share, (0.0, 10.0), faults);
    let by = table.take("by");
    let by_value = by.as_ref().and_then(|node| node.number(faults, "0.4"));
    let place = table.place.clone();
    table.finish(faults, &[]);
    let kind = kind?;
    let (least, most, usual) = kind.by();
    let by = match (by, by_value, usual) {
        (Some(node), Some(value), _) => {
            // A liar may say what is no number.
            let free = kind == EventKind::Liar && !value.is_finite();
            if !(free || (least..=most).contains(&value)) {
                let message = format!(
                    "{value} is out of range; `by` of `{}` is {least} to {most}",
                    kind.as_str()
                );
                faults.wrong(&node.place, message);
            }
            value
        }
        (Some(_), None, _) => 0.0,
        (None, _, Some(usual)) => usual,
        (None, _, None) => {
            let message = format!("`by` is missing; `{}` needs it, as by = 0.4", kind.as_str());
            faults.clash(&place, message);
            0.0
        }
    };
    Some(Event {
        at,
        kind,
        share,
        by,
    })
}

fn number(
    table: &mut Table<'_>,
    key: &'static str,
    value: &mut f64,
    (least, most): (f64, f64),
    faults: &mut Faults,
) {
    let Some(node) = table.take(key) else {
        return;
    };
    let Some(found) = node.number(faults, "0.5") else {
        return;
    };
    if (least..=most).contains(&found) {
        *value = found;
    } else {
        let message = format!("{found} is out of range; write a number from {least} to {most}");
        faults.wrong(&node.place, message);
    }
}

fn whole(
    table: &mut Table<'_>,
    key: &'static str,
    (least, most): (f64, f64),
    example: &str,
    faults: &mut Faults,
) -> Option<f64> {
    let node = table.take(key)?;
    let found = node.number(faults, example)?;
    if found.fract() == 0.0 && (least..=most).contains(&found) {
        return Some(found);
    }
    let message = format!("{found} will not do; write a whole number from {least} to {most}");
    faults.wrong(&node.place, message);
    None
}

fn time(
    table: &mut Table<'_>,
    key: &'static str,
    value: &mut Duration,
    range: (Duration, Duration),
    faults: &mut Faults,
) {
    let node = table.take(key);
    let found = node.and_then(|node| node.duration(faults, "\"5s\"", range, MILLISECOND));
    *value = found.unwrap_or(*value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name = "antagonists"
seed = 7
duration = "1800s"
backends = 100
capacity_sigma = 0.35
request_cost_cv = 1.0
load = 0.55
diurnal = 0.15
subset_skew_sigma = 0.2
clients = 200
push_delay = "3s"
report = { interval = "5s", jitter = 0.2, loss = 0.0, delay = "0s" }
policies = ["round_robin", "weighted_round_robin", "feedback"]
[[event]]
at = "900s"
kind = "slow"
share = 0.2
by = 0.4
"#;

    fn errors(text: &str) -> String {
        Scenario::parse(text, "a.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_whole_scenario_is_read() {
        let scenario = Scenario::parse(WHOLE, "a.toml").unwrap();
        let event = Event {
            at: Duration::from_secs(900),
            kind: EventKind::Slow,
            share: 0.2,
            by: 0.4,
        };
        let wanted = Scenario {
            name: "antagonists".to_owned(),
            seed: 7,
            events: vec![event],
            ..Scenario::default()
        };
        assert_eq!(scenario, wanted);
    }

    #[test]
    fn a_slip_is_told_with_its_line_and_what_would_be_right() {
        let slip = errors(&WHOLE.replace("push_delay", "push_dealy"));
        assert!(
            slip.contains("a.toml:12:1: push_dealy: unknown key"),
            "{slip}"
        );
        assert!(slip.contains("did you mean `push_delay`?"), "{slip}");
        let kind = errors("[[event]]\nat = \"1s\"\nkind = \"slwo\"\n");
        assert!(
            kind.contains("a.toml:3:8:") && kind.contains("`slow`"),
            "{kind}"
        );
        let by = errors("[[event]]\nat = \"1s\"\nkind = \"slow\"\n");
        assert!(by.contains("`by` is missing"), "{by}");
        let policy = errors("policies = [\"a58\"]\n");
        assert!(policy.contains("there is no policy `a58`"), "{policy}");
        for bad in [
            "backends = 1",
            "load = nan",
            "seed = 1.5",
            "duration = \"1s\"",
            "report = 5",
        ] {
            assert!(errors(bad).starts_with("a.toml:1:"), "{bad}");
        }
    }

    #[test]
    fn a_liar_may_say_what_is_no_number() {
        let text = "[[event]]\nat = \"1s\"\nkind = \"liar\"\nby = nan\n";
        let scenario = Scenario::parse(text, "a.toml").unwrap();
        assert!(scenario.events[0].by.is_nan());
    }
}
