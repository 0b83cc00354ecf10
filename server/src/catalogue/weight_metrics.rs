//! What is told of weights: each backend's by stage, the age of its reports, the
//! publish gate, ejections, distrust and overload.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::snapshot::Observed;
use crate::telemetry::{Held, Series};
use lookaside_core::model::BackendAddr;
use lookaside_core::plan::{OverloadObservation, ServiceSettings};
use lookaside_core::weights::{Ejections, GateCounts, Observation};

type Value = Gauge<f64, AtomicU64>;

/// Handles to the metrics. A backend has labels only while a source lists it.
#[derive(Debug, Clone, Default)]
pub(super) struct WeightMetrics {
    weights: Series<StageLabels, Value>,
    utilization: Series<BackendLabels, Value>,
    report_age: Series<BackendLabels, Value>,
    ticks: Series<ServiceLabels, Counter>,
    opened: Series<ServiceLabels, Counter>,
    ejections: Series<EjectionLabels, Counter>,
    distrusted: Series<ServiceLabels, Gauge>,
    overload_share: Series<ServiceLabels, Value>,
    overload_seconds: Series<ServiceLabels, Value>,
    overload_utilization: Series<ServiceLabels, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    service: String,
    backend: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    service: String,
    backend: String,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EjectionLabels {
    service: String,
    outcome: &'static str,
}

/// Stages of a weight, in the order of their making.
const STAGES: [&str; 5] = ["policy", "shadow", "slow_start", "factor", "published"];

const OUTCOMES: [&str; 3] = ["enforced", "not_enforced", "ended"];

impl WeightMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "backend_weight",
            "Weight of a backend by stage: factors of the policy, of the shadow policy, of slow \
             start and what passed the gate; published is what clients have",
            self.weights.family(),
        );
        registry.register(
            "backend_utilization",
            "Smoothed utilization that a backend reports, failures included",
            self.utilization.family(),
        );
        registry.register(
            "backend_report_age_seconds",
            "Time since a backend's last load report",
            self.report_age.family(),
        );
        registry.register(
            "weight_ticks",
            "Steps of a service's weight policy",
            self.ticks.family(),
        );
        registry.register(
            "weight_publishes",
            "Steps of a service's weight policy that clients are told of",
            self.opened.family(),
        );
        registry.register(
            "ejections",
            "Ejections of failing backends: enforced, not enforced for too many are out, ended",
            self.ejections.family(),
        );
        registry.register(
            "backends_distrusted",
            "Backends of a service whose reports its policy does not believe",
            self.distrusted.family(),
        );
        registry.register(
            "overload_drop_share",
            "Share of a service's calls that is dropped for overload, of those that no operator drops",
            self.overload_share.family(),
        );
        registry.register(
            "overload_drop_seconds",
            "Time since a service began to drop calls for overload; 0 while it does not",
            self.overload_seconds.family(),
        );
        registry.register(
            "overload_utilization",
            "Utilization of a service that is compared with its bound for overload; absent while \
             too few of its backends report",
            self.overload_utilization.family(),
        );
    }
}

/// What one service has exported.
#[derive(Debug)]
pub(super) struct Exported {
    metrics: WeightMetrics,
    service: String,
    backends: BTreeMap<BackendAddr, BackendSeries>,
    ticks: Held<ServiceLabels, Counter>,
    opened: Held<ServiceLabels, Counter>,
    /// By outcome.
    ejected: [Held<EjectionLabels, Counter>; 3],
    distrusted: Option<Held<ServiceLabels, Gauge>>,
    overload: Option<OverloadSeries>,
    gate: GateCounts,
    ejections: Ejections,
}

/// What is exported of a backend.
#[derive(Debug, Default)]
struct BackendSeries {
    /// By stage.
    weights: [Option<Held<StageLabels, Value>>; 5],
    utilization: Option<Held<BackendLabels, Value>>,
    report_age: Option<Held<BackendLabels, Value>>,
}

/// What is exported of a service that may drop calls for overload.
#[derive(Debug)]
struct OverloadSeries {
    share: Held<ServiceLabels, Value>,
    seconds: Held<ServiceLabels, Value>,
    utilization: Option<Held<ServiceLabels, Value>>,
}

impl Exported {
    /// Of this service; what is counted is at zero.
    pub(super) fn new(metrics: WeightMetrics, service: &str) -> Self {
        let labels = || ServiceLabels {
            service: service.to_owned(),
        };
        let ejected = OUTCOMES.map(|outcome| {
            metrics.ejections.hold(EjectionLabels {
                service: service.to_owned(),
                outcome,
            })
        });
        Self {
            backends: BTreeMap::new(),
            ticks: metrics.ticks.hold(labels()),
            opened: metrics.opened.hold(labels()),
            ejected,
            distrusted: None,
            overload: None,
            gate: GateCounts::default(),
            ejections: Ejections::default(),
            service: service.to_owned(),
            metrics,
        }
    }

    /// Tells what is `seen`; of a service that does not learn from reports, what
    /// its clients have.
    pub(super) fn update(&mut self, seen: &Observed, settings: &ServiceSettings) {
        let mut before = std::mem::take(&mut self.backends);
        for backend in &seen.backends {
            let mut series = before.remove(&backend.addr).unwrap_or_default();
            series.observe(&self.metrics, &self.service, backend, seen.learns);
            self.backends.insert(backend.addr, series);
        }
        drop(before);
        self.distrusted = seen.learns.then(|| {
            let held = self.distrusted.take();
            let held = held.unwrap_or_else(|| self.metrics.distrusted.hold(self.labels()));
            held.set(i64::try_from(seen.distrusted().count()).unwrap_or(i64::MAX));
            held
        });
        self.overload(&seen.overload, settings);
        self.count(seen.gate, seen.ejections);
    }

    fn count(&mut self, gate: GateCounts, ejections: Ejections) {
        let more = |new: u64, old: u64| new.saturating_sub(old);
        self.ticks.inc_by(more(gate.ticks, self.gate.ticks));
        self.opened.inc_by(more(gate.opened, self.gate.opened));
        let counts = [
            more(ejections.enforced, self.ejections.enforced),
            more(ejections.not_enforced, self.ejections.not_enforced),
            more(ejections.ended, self.ejections.ended),
        ];
        for (counter, count) in self.ejected.iter().zip(counts) {
            counter.inc_by(count);
        }
        self.gate = gate;
        self.ejections = ejections;
    }

    /// Tells what is dropped for overload, if the service ever does.
    fn overload(&mut self, seen: &OverloadObservation, settings: &ServiceSettings) {
        if settings.overload.is_none() {
            self.overload = None;
            return;
        }
        let labels = self.labels();
        let series = self.overload.get_or_insert_with(|| OverloadSeries {
            share: self.metrics.overload_share.hold(labels.clone()),
            seconds: self.metrics.overload_seconds.hold(labels.clone()),
            utilization: None,
        });
        series.share.set(seen.share);
        let seconds = seen.dropping.unwrap_or_default().as_secs_f64();
        series.seconds.set(seconds);
        tell(&mut series.utilization, seen.utilization, || {
            self.metrics.overload_utilization.hold(labels)
        });
    }

    fn labels(&self) -> ServiceLabels {
        ServiceLabels {
            service: self.service.clone(),
        }
    }
}

impl BackendSeries {
    fn observe(
        &mut self,
        metrics: &WeightMetrics,
        service: &str,
        seen: &Observation,
        learns: bool,
    ) {
        let slow_start = learns.then_some(seen.slow_start);
        let factor = seen.factor.filter(|_| learns);
        let weights = [seen.policy, seen.shadow, slow_start, factor, seen.published];
        for ((held, weight), stage) in self.weights.iter_mut().zip(weights).zip(STAGES) {
            tell(held, weight, || {
                metrics.weights.hold(StageLabels {
                    service: service.to_owned(),
                    backend: seen.addr.to_string(),
                    stage,
                })
            });
        }
        let labels = || BackendLabels {
            service: service.to_owned(),
            backend: seen.addr.to_string(),
        };
        let age = seen.report_age.filter(|_| learns);
        let utilization = age.map(|_| seen.utilization);
        tell(
            &mut self.report_age,
            age.map(|age| age.as_secs_f64()),
            || metrics.report_age.hold(labels()),
        );
        tell(&mut self.utilization, utilization, || {
            metrics.utilization.hold(labels())
        });
    }
}

/// Sets a gauge that is there only while it has a value.
fn tell<S: Clone + std::hash::Hash + Eq>(
    held: &mut Option<Held<S, Value>>,
    value: Option<f64>,
    hold: impl FnOnce() -> Held<S, Value>,
) {
    match value {
        Some(value) => {
            held.get_or_insert_with(hold).set(value);
        }
        None => *held = None,
    }
}
