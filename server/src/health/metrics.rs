//! What is counted of health checks. Labels are words of this program.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::tracker::Finding;
use lookaside_core::plan::Probe;

/// Handles to the metrics of health checks.
#[derive(Debug, Clone, Default)]
pub struct HealthMetrics {
    backends: Family<ProbeLabels, Gauge>,
    probes: Family<ResultLabels, Counter>,
    stretch: Gauge<f64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabels {
    probe: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    kind: &'static str,
    result: &'static str,
}

impl HealthMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "health_checked_backends",
            "Backends whose health is checked, or that are looked at because something broke, \
             by what is thought of them",
            metrics.backends.clone(),
        );
        registry.register(
            "health_probes",
            "Findings of health checks (grpc, tcp) and of looks at suspects (suspect), by result; \
             doubt is a connection that broke, and is looked at; late is one that the balancer \
             itself was too slow for and own_fault one that it lacked something for, which count \
             for nothing",
            metrics.probes.clone(),
        );
        registry.register(
            "health_interval_stretch",
            "How many times longer than asked for the shortest interval of health checks is, \
             because there are more than the balancer can check; 1 as long as it can",
            metrics.stretch.clone(),
        );
        metrics.begin();
        metrics
    }

    /// What never happened is told as zero.
    fn begin(&self) {
        for kind in KINDS {
            for found in Finding::ALL {
                let result = found.as_str();
                drop(self.probes.get_or_create(&ResultLabels { kind, result }));
            }
        }
        for probe in [Probe::Unknown, Probe::Good, Probe::Bad, Probe::Refused] {
            self.thought(probe);
        }
        self.stretch.set(1.0);
    }

    pub(super) fn found(&self, kind: &'static str, found: Finding) {
        let result = found.as_str();
        let labels = ResultLabels { kind, result };
        self.probes.get_or_create(&labels).inc();
    }

    /// Intervals are so many times longer than asked for.
    pub(super) fn stretched(&self, ratio: f64) {
        self.stretch.set(ratio);
    }

    /// A backend was thought of as `was`, and is as `is`.
    pub(super) fn judged(&self, was: Option<Probe>, is: Option<Probe>) {
        if let Some(was) = was {
            self.thought(was).dec();
        }
        if let Some(is) = is {
            self.thought(is).inc();
        }
    }

    /// The backends that are thought of so.
    fn thought(&self, probe: Probe) -> Gauge {
        let probe = match probe {
            Probe::Unknown => "unknown",
            Probe::Good => "good",
            Probe::Bad => "bad",
            Probe::Refused => "refused",
        };
        self.backends.get_or_create(&ProbeLabels { probe }).clone()
    }
}

/// How backends are looked at.
const KINDS: [&str; 3] = ["grpc", "tcp", "suspect"];
