//! What is counted of registration. Labels are words of this program.

use lookaside_proto::registration_v1::Outcome;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::catalogue::REPORT_RESULTS;

/// Handles to the metrics of registration.
#[derive(Debug, Clone, Default)]
pub struct RegistrationMetrics {
    pub(super) streams: Gauge,
    registrations: Family<OutcomeLabels, Counter>,
    ended: Family<ReasonLabels, Counter>,
    reports: Family<ResultLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

impl RegistrationMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "registration_streams",
            "Streams of backends that register",
            metrics.streams.clone(),
        );
        registry.register(
            "registrations",
            "Registrations of a backend for a service, by what became of them",
            metrics.registrations.clone(),
        );
        registry.register(
            "registrations_ended",
            "Registrations that ended, by why",
            metrics.ended.clone(),
        );
        registry.register(
            "registration_reports",
            "Load reports on registration streams, by what became of them",
            metrics.reports.clone(),
        );
        metrics.begin();
        metrics
    }

    /// What never happened is told as zero.
    fn begin(&self) {
        for outcome in OUTCOMES {
            let outcome = outcome_name(outcome);
            drop(self.registrations.get_or_create(&OutcomeLabels { outcome }));
        }
        for reason in REASONS {
            drop(self.ended.get_or_create(&ReasonLabels { reason }));
        }
        for result in REPORT_RESULTS {
            drop(self.reports.get_or_create(&ResultLabels { result }));
        }
    }

    pub(super) fn registered(&self, outcome: Outcome) {
        let labels = OutcomeLabels {
            outcome: outcome_name(outcome),
        };
        self.registrations.get_or_create(&labels).inc();
    }

    pub(super) fn ended(&self, reason: &'static str, count: u64) {
        self.ended
            .get_or_create(&ReasonLabels { reason })
            .inc_by(count);
    }

    pub(super) fn reported(&self, result: &'static str) {
        self.reports.get_or_create(&ResultLabels { result }).inc();
    }
}

const OUTCOMES: [Outcome; 5] = [
    Outcome::Accepted,
    Outcome::UnknownService,
    Outcome::Forbidden,
    Outcome::AddressRefused,
    Outcome::Full,
];

/// Why registrations end.
const REASONS: [&str; 4] = ["expired", "left", "probe_refused", "superseded"];

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unspecified => "unspecified",
        Outcome::Accepted => "accepted",
        Outcome::UnknownService => "unknown_service",
        Outcome::Forbidden => "forbidden",
        Outcome::AddressRefused => "address_refused",
        Outcome::Full => "full",
    }
}
