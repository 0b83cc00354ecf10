//! The keys of a service that say how its backends are weighed.

use std::time::Duration;

use super::MILLISECOND;
use super::read::{Node, Table};
use crate::config::error::Faults;
use crate::config::nearest::list;
use lookaside_core::weights::{PolicyChoice, ReportSettings, WeightSettings};

/// A backend that needs longer than this to warm up should be drained.
const SLOW_START: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(3600));

/// Averages over more than this are of another morning.
const LOAD_WINDOW: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(600));

/// A failing call may count for as much as several machines, if need be.
const MOST_PENALTY: f64 = 10.0;

/// Metrics that count as load; each report is searched for all of them.
const MAX_METRICS: usize = 16;

/// Where in a report a metric may be.
const METRICS: [&str; 2] = ["utilization.", "named_metrics."];

/// Reads `policy`, `shadow`, `blend`, `slow_start`, `ejection` and what makes up
/// the load of a service's backends.
pub(super) fn read(table: &mut Table<'_>, faults: &mut Faults) -> WeightSettings {
    let usual = WeightSettings::default();
    let policy = table.take("policy");
    let policy = policy.and_then(|node| read_policy(&node, faults));
    let policy = policy.unwrap_or(usual.policy);
    let shadow = table.take("shadow").and_then(|node| {
        let shadow = read_policy(&node, faults)?;
        if shadow == policy {
            let message = format!(
                "`{}` is the policy already; name another, or remove it",
                shadow.name()
            );
            faults.clash(&node.place, message);
        }
        Some(shadow)
    });
    let blend = table.take("blend");
    let blend = blend.and_then(|node| read_blend(&node, faults));
    let slow_start = table.take("slow_start");
    let slow_start =
        slow_start.and_then(|node| node.duration(faults, "\"30s\"", SLOW_START, MILLISECOND));
    let ejection = table.take("ejection");
    let ejection = ejection.and_then(|node| node.boolean(faults, "true"));
    let load_window = table.take("load_window");
    let load_window =
        load_window.and_then(|node| node.duration(faults, "\"30s\"", LOAD_WINDOW, MILLISECOND));
    let error_penalty = table.take("error_penalty");
    let error_penalty = error_penalty.and_then(|node| read_penalty(&node, faults));
    let metrics = table.take("load_metrics");
    let metrics = metrics.map(|node| read_metrics(&node, faults));
    WeightSettings {
        policy,
        shadow,
        blend: blend.unwrap_or(usual.blend),
        slow_start,
        ejection,
        reports: ReportSettings {
            load_window,
            error_penalty: error_penalty.unwrap_or(usual.reports.error_penalty),
            ..usual.reports
        },
        metrics: metrics.unwrap_or_default(),
    }
}

fn read_policy(node: &Node<'_>, faults: &mut Faults) -> Option<PolicyChoice> {
    let name = node.text(faults, "\"feedback\"")?;
    let choice = PolicyChoice::named(name);
    if choice.is_none() {
        let known = list(PolicyChoice::BUILT_IN.map(PolicyChoice::name));
        let message = format!("there is no policy `{name}`; there are {known}");
        faults.wrong(&node.place, message);
    }
    choice
}

fn read_penalty(node: &Node<'_>, faults: &mut Faults) -> Option<f64> {
    let penalty = node.number(faults, "1.0")?;
    if (0.0..=MOST_PENALTY).contains(&penalty) {
        return Some(penalty);
    }
    let message = format!(
        "error_penalty {penalty} is out of range; write 0 to {MOST_PENALTY} (1 counts a backend \
         that fails every call as one that is fully busy beside what it reports)"
    );
    faults.wrong(&node.place, message);
    None
}

fn read_metrics(node: &Node<'_>, faults: &mut Faults) -> Vec<String> {
    let nodes = node.array(faults, "[\"utilization.gpu\"]");
    let nodes = nodes.unwrap_or_default();
    if nodes.len() > MAX_METRICS {
        let message = format!("there are {}; at most {MAX_METRICS} are read", nodes.len());
        faults.wrong(&node.place, message);
    }
    let mut metrics: Vec<String> = Vec::new();
    for node in nodes {
        let Some(name) = node.text(faults, "\"utilization.gpu\"") else {
            continue;
        };
        let of = METRICS.iter().find_map(|of| name.strip_prefix(of));
        let message = match of {
            None | Some("") => format!(
                "`{name}` is no metric of a report; write \"utilization.<name>\" or \
                 \"named_metrics.<name>\" (cpu and application utilization count without)"
            ),
            Some(_) if metrics.iter().any(|metric| metric == name) => {
                format!("`{name}` is already in the list")
            }
            Some(_) => {
                metrics.push(name.to_owned());
                continue;
            }
        };
        faults.wrong(&node.place, message);
    }
    metrics
}

fn read_blend(node: &Node<'_>, faults: &mut Faults) -> Option<f64> {
    let blend = node.number(faults, "0.25")?;
    if blend > 0.0 && blend <= 1.0 {
        return Some(blend);
    }
    let message = format!(
        "blend {blend} is out of range; write a number above 0 and at most 1 (0.25 is a quarter \
         of the policy's weights), or shadow = \"…\" to publish nothing of a policy"
    );
    faults.wrong(&node.place, message);
    None
}
