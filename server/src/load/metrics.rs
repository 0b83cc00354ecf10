//! What is counted of asking for load. Labels are words of this program.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::catalogue::REPORT_RESULTS;
use crate::config::LoadKind;

/// Handles to the metrics of asking for load.
#[derive(Debug, Clone, Default)]
pub struct LoadMetrics {
    /// Streams that reports come on.
    pub(super) streams: Gauge,
    reports: Family<ResultLabels, Counter>,
    ended: Family<ReasonLabels, Counter>,
    polls: Family<PollLabels, Counter>,
    asked: Family<KindLabels, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PollLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Why ORCA streams do not begin, or end.
const ENDINGS: [&str; 4] = ["broken", "no_connection", "silent", "unimplemented"];

/// What may become of a poll, by kind.
const POLLS: [(&str, &[&str]); 2] = [
    (
        "load_report",
        &["answered", "failed", "timeout", "unimplemented"],
    ),
    (
        "prometheus",
        &[
            "answered",
            "first",
            "reset",
            "no_utilization",
            "refused",
            "failed",
            "tls",
            "timeout",
            "late",
            "own_fault",
            "bad_status",
            "too_long",
            "garbage",
        ],
    ),
];

impl LoadMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "load_streams",
            "Streams of load reports (ORCA out of band) that are open",
            metrics.streams.clone(),
        );
        registry.register(
            "load_reports",
            "Load reports of backends that are asked for them, by what became of them",
            metrics.reports.clone(),
        );
        registry.register(
            "load_streams_ended",
            "ORCA streams that did not begin or ended, by why",
            metrics.ended.clone(),
        );
        registry.register(
            "load_polls",
            "Times that backends were asked for a score (load_report) or a page (prometheus), by \
             result; of first and reset no rate can be told yet",
            metrics.polls.clone(),
        );
        registry.register(
            "load_asked_backends",
            "Backends that are asked for their load, by how; those that have none of the ways of \
             their services are not",
            metrics.asked.clone(),
        );
        metrics.begin();
        metrics
    }

    /// What never happened is told as zero.
    fn begin(&self) {
        for result in REPORT_RESULTS {
            drop(self.reports.get_or_create(&ResultLabels { result }));
        }
        for reason in ENDINGS {
            drop(self.ended.get_or_create(&ReasonLabels { reason }));
        }
        for (kind, results) in POLLS {
            for result in results.iter().copied() {
                drop(self.polls.get_or_create(&PollLabels { kind, result }));
            }
        }
        for kind in LoadKind::ALL {
            drop(self.asked.get_or_create(&KindLabels { kind }));
        }
    }

    /// A backend is asked in this way until this is dropped.
    pub(super) fn asked(&self, kind: &'static str) -> TargetGauge {
        let asked = self.asked.get_or_create(&KindLabels { kind }).clone();
        asked.inc();
        TargetGauge(asked)
    }

    pub(super) fn polled(&self, kind: &'static str, result: &'static str) {
        self.polls.get_or_create(&PollLabels { kind, result }).inc();
    }

    pub(super) fn reported(&self, result: &'static str) {
        self.reports.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&ReasonLabels { reason }).inc();
    }
}

/// Counts a backend as asked.
pub(super) struct TargetGauge(Gauge);

impl Drop for TargetGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}
