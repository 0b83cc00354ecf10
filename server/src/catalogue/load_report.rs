//! From a report on the wire to the catalogue.

use lookaside_proto::orca_v3::OrcaLoadReport;

use super::{Catalogue, Reported};
use lookaside_core::model::{BackendAddr, ServiceName};
use lookaside_core::weights::{RawReport, Report, ReportSource};

/// What may become of a report, as labels.
pub const REPORT_RESULTS: [&str; 7] = [
    "taken",
    "unknown_backend",
    "too_soon",
    "not_finite",
    "negative",
    "absurd",
    "no_load",
];

impl Catalogue {
    /// The same as [`Self::report`] for a report as it is on the wire; returns what became
    /// of it, as a label, one of [`REPORT_RESULTS`]. Its metrics are named as operators name
    /// them: `utilization.gpu`, `named_metrics.queue`.
    pub fn report_load(
        &self,
        service: &ServiceName,
        backend: BackendAddr,
        source: ReportSource,
        load: &OrcaLoadReport,
    ) -> &'static str {
        let Some(found) = self.get(service.as_str()) else {
            return "unknown_backend";
        };
        let settings = found.settings();
        let metrics = &settings.weights.metrics;
        // Looked up one by one: a report may name thousands that nobody wants.
        let named: Vec<(&str, f64)> = metrics
            .iter()
            .filter_map(|metric| Some((metric.as_str(), value_of(load, metric)?)))
            .collect();
        let raw = RawReport {
            source,
            cpu_utilization: load.cpu_utilization,
            application_utilization: load.application_utilization,
            named: &named,
            qps: calls_per_second(load),
            eps: load.eps,
        };
        match Report::new(&raw, metrics) {
            Ok(report) => match self.report(service, backend, report) {
                Reported::Taken => "taken",
                Reported::UnknownBackend => "unknown_backend",
                Reported::TooSoon => "too_soon",
            },
            Err(bad) => bad.reason(),
        }
    }
}

/// What a report says of a metric as operators name it, if it does.
fn value_of(load: &OrcaLoadReport, metric: &str) -> Option<f64> {
    let (values, name) = if let Some(name) = metric.strip_prefix("utilization.") {
        (&load.utilization, name)
    } else {
        (&load.named_metrics, metric.strip_prefix("named_metrics.")?)
    };
    values.get(name).copied()
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
