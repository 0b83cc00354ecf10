//! From a report on the wire to the fleet.

use lookaside_proto::orca_v3::OrcaLoadReport;

use crate::fleet::{Fleet, Reported};
use crate::model::{BackendAddr, ServiceName};
use crate::weights::{RawReport, Report, ReportSource};

/// Passes a backend's report on to the fleet; returns what became of it, as a
/// label. Its metrics are named as operators name them: `utilization.gpu`,
/// `named_metrics.queue`.
pub(crate) fn pass_on(
    fleet: &Fleet,
    service: &ServiceName,
    addr: BackendAddr,
    source: ReportSource,
    load: &OrcaLoadReport,
) -> &'static str {
    let Some(found) = fleet.get(service.as_str()) else {
        return "unknown_backend";
    };
    let metrics = found.settings().weights.metrics;
    let resources = load
        .utilization
        .iter()
        .map(|(k, v)| ("utilization.", k, *v));
    let named = load
        .named_metrics
        .iter()
        .map(|(k, v)| ("named_metrics.", k, *v));
    let wanted = |metric: &&String, prefix: &str, name: &str| {
        metric.strip_prefix(prefix).is_some_and(|rest| rest == name)
    };
    let named: Vec<(&str, f64)> = resources
        .chain(named)
        .filter_map(|(prefix, name, value)| {
            let metric = metrics.iter().find(|m| wanted(m, prefix, name))?;
            Some((metric.as_str(), value))
        })
        .collect();
    let raw = RawReport {
        source,
        cpu_utilization: load.cpu_utilization,
        application_utilization: load.application_utilization,
        named: &named,
        qps: calls_per_second(load),
        eps: load.eps,
    };
    match Report::new(&raw, &metrics) {
        Ok(report) => match fleet.report(service, addr, report) {
            Reported::Taken => "taken",
            Reported::UnknownBackend => "unknown_backend",
            Reported::TooSoon => "too_soon",
        },
        Err(bad) => bad.reason(),
    }
}

/// The field that counts, or its forerunner where a backend knows only that.
#[allow(deprecated, reason = "backends that are older still set it")]
fn calls_per_second(load: &OrcaLoadReport) -> f64 {
    if load.rps_fractional == 0.0 {
        load.rps as f64
    } else {
        load.rps_fractional
    }
}
