//! What is told of weights: each backend's by stage, the age of its reports, the
//! publish gate, ejections, distrust and overload.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::model::{BackendAddr, ServiceName};
use crate::plan::{PlanState, ServiceSettings};
use crate::weights::{Ejections, GateCounts, Observation};

type Value = Gauge<f64, AtomicU64>;

/// Handles to the metrics. A backend has labels only while a source lists it,
/// and its service weighs by reports.
#[derive(Debug, Clone, Default)]
pub(super) struct WeightMetrics {
    weights: Family<StageLabels, Value>,
    utilization: Family<BackendLabels, Value>,
    report_age: Family<BackendLabels, Value>,
    ticks: Family<ServiceLabels, Counter>,
    opened: Family<ServiceLabels, Counter>,
    ejections: Family<EjectionLabels, Counter>,
    distrusted: Family<ServiceLabels, Gauge>,
    overload_share: Family<ServiceLabels, Value>,
    overload_seconds: Family<ServiceLabels, Value>,
    overload_utilization: Family<ServiceLabels, Value>,
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
            self.weights.clone(),
        );
        registry.register(
            "backend_utilization",
            "Smoothed utilization that a backend reports, failures included",
            self.utilization.clone(),
        );
        registry.register(
            "backend_report_age_seconds",
            "Time since a backend's last load report",
            self.report_age.clone(),
        );
        registry.register(
            "weight_ticks",
            "Steps of a service's weight policy",
            self.ticks.clone(),
        );
        registry.register(
            "weight_publishes",
            "Steps of a service's weight policy that clients are told of",
            self.opened.clone(),
        );
        registry.register(
            "ejections",
            "Ejections of failing backends: enforced, not enforced for too many are out, ended",
            self.ejections.clone(),
        );
        registry.register(
            "backends_distrusted",
            "Backends of a service whose reports its policy does not believe",
            self.distrusted.clone(),
        );
        registry.register(
            "overload_drop_share",
            "Share of a service's calls that is dropped for overload, of those that no operator drops",
            self.overload_share.clone(),
        );
        registry.register(
            "overload_drop_seconds",
            "Time since a service began to drop calls for overload; 0 while it does not",
            self.overload_seconds.clone(),
        );
        registry.register(
            "overload_utilization",
            "Utilization of a service that is compared with its bound for overload; absent while \
             too few of its backends report",
            self.overload_utilization.clone(),
        );
    }

    fn observe(&self, service: &str, seen: &Observation) {
        let backend = seen.addr.to_string();
        let stages = [
            seen.policy,
            seen.shadow,
            Some(seen.slow_start),
            seen.factor,
            seen.published,
        ];
        for (stage, weight) in STAGES.into_iter().zip(stages) {
            let labels = StageLabels {
                service: service.to_owned(),
                backend: backend.clone(),
                stage,
            };
            match weight {
                Some(weight) => {
                    self.weights.get_or_create(&labels).set(weight);
                }
                None => {
                    self.weights.remove(&labels);
                }
            }
        }
        let labels = BackendLabels {
            service: service.to_owned(),
            backend,
        };
        if let Some(age) = seen.report_age {
            let age = age.as_secs_f64();
            self.report_age.get_or_create(&labels).set(age);
            let utilization = self.utilization.get_or_create(&labels);
            utilization.set(seen.utilization);
        }
    }

    fn forget_backend(&self, service: &str, backend: BackendAddr) {
        let backend = backend.to_string();
        for stage in STAGES {
            self.weights.remove(&StageLabels {
                service: service.to_owned(),
                backend: backend.clone(),
                stage,
            });
        }
        let labels = BackendLabels {
            service: service.to_owned(),
            backend,
        };
        self.report_age.remove(&labels);
        self.utilization.remove(&labels);
    }
}

/// What one service has exported.
#[derive(Debug)]
pub(super) struct Exported {
    metrics: WeightMetrics,
    service: ServiceName,
    backends: BTreeSet<BackendAddr>,
    gate: GateCounts,
    ejections: Ejections,
}

impl Exported {
    pub(super) fn new(metrics: WeightMetrics, service: ServiceName) -> Self {
        Self {
            metrics,
            service,
            backends: BTreeSet::new(),
            gate: GateCounts::default(),
            ejections: Ejections::default(),
        }
    }

    /// Whether anything is told of the backend.
    pub(super) fn knows(&self, backend: BackendAddr) -> bool {
        self.backends.contains(&backend)
    }

    /// Tells what `state` knows, if the service weighs by reports. Returns whose
    /// reports its policy does not believe.
    pub(super) fn update(
        &mut self,
        state: &PlanState,
        settings: &ServiceSettings,
        now: Duration,
    ) -> BTreeSet<BackendAddr> {
        let service = self.service.to_string();
        let mut known = BTreeSet::new();
        let mut distrusted = BTreeSet::new();
        let labels = ServiceLabels {
            service: service.clone(),
        };
        if state.next(settings).is_some() {
            for seen in state.observations(settings, now) {
                self.metrics.observe(&service, &seen);
                known.insert(seen.addr);
                if !seen.trusted {
                    distrusted.insert(seen.addr);
                }
            }
            let all = self.metrics.distrusted.get_or_create(&labels);
            all.set(i64::try_from(distrusted.len()).unwrap_or(i64::MAX));
        } else {
            self.metrics.distrusted.remove(&labels);
        }
        for gone in self.backends.difference(&known) {
            self.metrics.forget_backend(&service, *gone);
        }
        self.backends = known;
        self.overload(state, settings, now);

        let (gate, ejections) = (state.gate(), state.ejections());
        let more = |new: u64, old: u64| new.saturating_sub(old);
        let ticks = more(gate.ticks, self.gate.ticks);
        if ticks > 0 {
            self.metrics.ticks.get_or_create(&labels).inc_by(ticks);
            let opened = more(gate.opened, self.gate.opened);
            self.metrics.opened.get_or_create(&labels).inc_by(opened);
        }
        let counts = [
            more(ejections.enforced, self.ejections.enforced),
            more(ejections.not_enforced, self.ejections.not_enforced),
            more(ejections.ended, self.ejections.ended),
        ];
        for (outcome, count) in OUTCOMES.into_iter().zip(counts).filter(|(_, n)| *n > 0) {
            let labels = EjectionLabels {
                service: labels.service.clone(),
                outcome,
            };
            self.metrics.ejections.get_or_create(&labels).inc_by(count);
        }
        self.gate = gate;
        self.ejections = ejections;
        distrusted
    }

    /// Tells what is dropped for overload, if the service ever does.
    fn overload(&self, state: &PlanState, settings: &ServiceSettings, now: Duration) {
        let labels = ServiceLabels {
            service: self.service.to_string(),
        };
        if settings.overload.is_none() {
            self.metrics.overload_share.remove(&labels);
            self.metrics.overload_seconds.remove(&labels);
            self.metrics.overload_utilization.remove(&labels);
            return;
        }
        let seen = state.overload(now);
        let seconds = seen.dropping.unwrap_or_default().as_secs_f64();
        let share = self.metrics.overload_share.get_or_create(&labels);
        share.set(seen.share);
        let active = self.metrics.overload_seconds.get_or_create(&labels);
        active.set(seconds);
        match seen.utilization {
            Some(utilization) => {
                let gauge = self.metrics.overload_utilization.get_or_create(&labels);
                gauge.set(utilization);
            }
            None => {
                self.metrics.overload_utilization.remove(&labels);
            }
        }
    }
}

impl Drop for Exported {
    /// The service is gone, or its publisher starts anew.
    fn drop(&mut self) {
        let service = self.service.to_string();
        for backend in &self.backends {
            self.metrics.forget_backend(&service, *backend);
        }
        for outcome in OUTCOMES {
            self.metrics.ejections.remove(&EjectionLabels {
                service: service.clone(),
                outcome,
            });
        }
        let labels = ServiceLabels { service };
        self.metrics.ticks.remove(&labels);
        self.metrics.opened.remove(&labels);
        self.metrics.distrusted.remove(&labels);
        self.metrics.overload_share.remove(&labels);
        self.metrics.overload_seconds.remove(&labels);
        self.metrics.overload_utilization.remove(&labels);
    }
}
