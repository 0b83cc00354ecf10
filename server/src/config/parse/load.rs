//! `load`: where the load of a service's backends is asked for.

use std::sync::Arc;
use std::time::Duration;

use super::read::{Node, Table};
use super::{MILLISECOND, REPORT_INTERVAL, tls};
use crate::config::error::Faults;
use crate::config::nearest::list;
use crate::config::{LoadConfig, LoadKind, PrometheusConfig, Selector};
use lookaside_core::model::BackendTls;

/// How often backends are asked to report, unless the file says so.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long a page may take, unless the file says so, and the range of that.
const TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));

const PATH: &str = "/metrics";

/// Keys of one kind alone, and which.
const OF_KIND: [(&str, &[&str]); 6] = [
    ("capacity", &["load_report", "prometheus"]),
    ("path", &["prometheus"]),
    ("timeout", &["prometheus"]),
    ("utilization", &["prometheus"]),
    ("requests", &["prometheus"]),
    ("errors", &["prometheus"]),
];

/// One way of asking, or several in order of preference. `outer` is the service's
/// TLS.
pub(super) fn read_all(
    node: &Node<'_>,
    outer: Option<&Arc<BackendTls>>,
    faults: &mut Faults,
) -> Vec<LoadConfig> {
    let nodes = node.one_or_more(faults);
    if nodes.is_empty() {
        let message = "nobody is asked for load by an empty array; remove it, or write load = { \
                       kind = \"orca\" }";
        faults.clash(&node.place, message);
    }
    let mut all: Vec<LoadConfig> = Vec::new();
    for node in nodes {
        let Some(load) = read(&node, outer, faults) else {
            continue;
        };
        if all.iter().any(|before| before.is_like(&load)) {
            let message = "backends are asked for the same in the same place already; remove it";
            faults.clash(&node.place, message);
        }
        let paged = |load: &LoadConfig| matches!(load.kind, LoadKind::Prometheus(_));
        if all.last().is_some_and(paged) {
            let message = "nobody is ever asked this way, for whoever is behind a page (kind = \
                           \"prometheus\") is asked for that again and again; write the page last";
            faults.clash(&node.place, message);
        }
        all.push(load);
    }
    all
}

fn read(
    node: &Node<'_>,
    outer: Option<&Arc<BackendTls>>,
    faults: &mut Faults,
) -> Option<LoadConfig> {
    let mut table = node.table(faults, "{ kind = \"orca\" }")?;
    let kind = table.require("kind", faults, "\"orca\"");
    let kind = kind.and_then(|node| {
        let kind = node.text(faults, "\"orca\"")?;
        let known = LoadKind::ALL.into_iter().find(|known| *known == kind);
        if known.is_none() {
            let known = list(LoadKind::ALL);
            let message = format!("there is no kind of load report `{kind}`; there are {known}");
            faults.wrong(&node.place, message);
        }
        known
    });
    let interval = table.take("interval");
    let interval =
        interval.and_then(|node| node.duration(faults, "\"5s\"", REPORT_INTERVAL, MILLISECOND));
    let interval = interval.unwrap_or(INTERVAL);
    let port = table.take("port");
    let port = port.and_then(|node| node.port(faults, "50052"));
    let authority = table.take("authority");
    let authority = authority.and_then(|node| node.authority(faults));
    let tls = tls::inherit(&mut table, outer, faults);
    if let Some(kind) = kind {
        refuse_others(&mut table, kind, faults);
    }
    let kind = match kind {
        Some("load_report") => {
            let capacity = table.require("capacity", faults, "100");
            let capacity = capacity.and_then(|node| read_capacity(&node, faults));
            capacity.map(|capacity| LoadKind::LoadReport { capacity })
        }
        Some("prometheus") => read_prometheus(&mut table, interval, faults),
        kind => kind.map(|_| LoadKind::Orca),
    };
    table.finish(faults, &[]);
    Some(LoadConfig {
        kind: kind?,
        interval,
        port,
        authority,
        tls,
    })
}

/// Keys that say nothing to this kind.
fn refuse_others(table: &mut Table<'_>, kind: &str, faults: &mut Faults) {
    for (key, kinds) in OF_KIND {
        if !kinds.contains(&kind)
            && let Some(node) = table.take(key)
        {
            let of = list(kinds.iter().copied());
            let message = format!("of no use for kind {kind:?}, but for {of}; remove it");
            faults.clash(&node.place, message);
        }
    }
}

fn read_prometheus(
    table: &mut Table<'_>,
    interval: Duration,
    faults: &mut Faults,
) -> Option<LoadKind> {
    let path = table.take("path");
    let path = path.and_then(|node| {
        let path = node.text(faults, "\"/metrics\"")?;
        if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() {
            let message = format!("`{path}` is no path; write one from / on, as \"/metrics\"");
            faults.wrong(&node.place, message);
        }
        Some(path.to_owned())
    });
    let timeout = table.take("timeout");
    let timeout = timeout.and_then(|node| node.duration(faults, "\"1s\"", TIMEOUTS, MILLISECOND));
    let utilization = table.require("utilization", faults, "\"worker_utilization\"");
    let utilization = utilization.and_then(|node| read_selector(&node, faults));
    let capacity = table.take("capacity");
    let capacity = capacity.and_then(|node| read_capacity(&node, faults));
    let requests = table.take("requests");
    let requests = requests.and_then(|node| read_selector(&node, faults));
    let errors = table.take("errors");
    let errors_at = errors.as_ref().map(|node| node.place.clone());
    let errors = errors.and_then(|node| read_selector(&node, faults));
    if let (Some(place), None) = (errors_at, &requests) {
        let message = "errors are a share of requests; name those too, as requests = \"…\"";
        faults.clash(&place, message);
    }
    Some(LoadKind::Prometheus(PrometheusConfig {
        path: path.unwrap_or_else(|| PATH.to_owned()),
        timeout: timeout.unwrap_or(TIMEOUT).min(interval),
        utilization: utilization?,
        capacity: capacity.unwrap_or(1.0),
        requests,
        errors,
    }))
}

fn read_selector(node: &Node<'_>, faults: &mut Faults) -> Option<Selector> {
    node.parsed(faults, "\"requests_total\"")
}

fn read_capacity(node: &Node<'_>, faults: &mut Faults) -> Option<f64> {
    let capacity = node.number(faults, "100")?;
    if capacity.is_finite() && capacity > 0.0 {
        return Some(capacity);
    }
    let message = format!(
        "capacity {capacity} is out of range; write what a backend shows that is fully busy, a \
         number above 0"
    );
    faults.wrong(&node.place, message);
    None
}
