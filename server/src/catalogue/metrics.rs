//! What the catalogue counts.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::snapshot::Snapshot;
use super::weight_metrics::{Exported, WeightMetrics};
use crate::telemetry::{Held, Series};
use lookaside_core::model::{BackendAddr, ServiceName};
use lookaside_core::plan::{BackendState, Plan};

/// Handles to the catalogue's metrics. Labels come from the configuration and from
/// backends that a source lists, so that nothing else from the wire can add one.
#[derive(Debug, Clone, Default)]
pub struct CatalogueMetrics {
    backends: Series<StateLabels, Gauge>,
    states: Series<BackendLabels, Gauge>,
    ready: Series<ServiceLabels, Gauge>,
    publishes: Series<ServiceLabels, Counter>,
    failures: Series<ServiceLabels, Counter>,
    groups: Series<ServiceLabels, Gauge>,
    zone_spill: Series<ZoneLabels, Gauge<f64, AtomicU64>>,
    weights: WeightMetrics,
}

/// The series of one service, from its beginning to its end.
#[derive(Debug)]
pub(super) struct ServiceMetrics {
    all: CatalogueMetrics,
    service: String,
    backends: Vec<(BackendState, Held<StateLabels, Gauge>)>,
    states: BTreeMap<BackendAddr, (BackendState, Held<BackendLabels, Gauge>)>,
    ready: Held<ServiceLabels, Gauge>,
    publishes: Held<ServiceLabels, Counter>,
    failures: Held<ServiceLabels, Counter>,
    groups: Held<ServiceLabels, Gauge>,
    spill: BTreeMap<String, Held<ZoneLabels, Gauge<f64, AtomicU64>>>,
    /// What is told of weights.
    weights: Exported,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    service: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    service: String,
    backend: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ZoneLabels {
    service: String,
    zone: String,
}

/// What clients are counted under whose zone nobody knows.
const NO_ZONE: &str = "";

impl CatalogueMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "backends",
            "Backends of a service by state",
            metrics.backends.family(),
        );
        registry.register(
            "backend_state",
            "1 for the state that a backend of a service is in",
            metrics.states.family(),
        );
        registry.register(
            "service_ready",
            "Whether a service has a list to send; until then its streams are held",
            metrics.ready.family(),
        );
        registry.register(
            "publishes",
            "Times a service's lists changed",
            metrics.publishes.family(),
        );
        registry.register(
            "publisher_failures",
            "Times a service's publisher failed and was started again",
            metrics.failures.family(),
        );
        registry.register(
            "groups",
            "Groups of clients that a service has, each with a list of its own",
            metrics.groups.family(),
        );
        registry.register(
            "zone_spill",
            "Share of the calls of a zone's clients that go to backends of other zones",
            metrics.zone_spill.family(),
        );
        metrics.weights.register(registry);
        metrics
    }

    /// The series of a service, all that are known before anything happens at zero.
    pub(super) fn service(&self, name: &ServiceName) -> ServiceMetrics {
        let service = name.to_string();
        let labels = || ServiceLabels {
            service: service.clone(),
        };
        let backends = BackendState::ALL.iter().map(|state| {
            let labels = StateLabels {
                service: service.clone(),
                state: state.as_str(),
            };
            (*state, self.backends.hold(labels))
        });
        ServiceMetrics {
            backends: backends.collect(),
            states: BTreeMap::new(),
            ready: self.ready.hold(labels()),
            publishes: self.publishes.hold(labels()),
            failures: self.failures.hold(labels()),
            groups: self.groups.hold(labels()),
            spill: BTreeMap::new(),
            weights: Exported::new(self.weights.clone(), &service),
            service,
            all: self.clone(),
        }
    }
}

impl ServiceMetrics {
    /// What is published now, after `before`.
    pub(super) fn published(&mut self, before: Option<&Snapshot>, now: &Snapshot) {
        self.weights.update(&now.observed, &now.settings);
        if before.is_none_or(|before| before.version != now.version) {
            self.planned(&now.plan);
            if now.lists_differ_from(before) {
                self.publishes.inc();
            }
        }
    }

    fn planned(&mut self, plan: &Plan) {
        let members = &plan.members;
        for (state, gauge) in &self.backends {
            let count = members.iter().filter(|member| member.state == *state);
            gauge.set(i64::try_from(count.count()).unwrap_or(i64::MAX));
        }
        let mut before = std::mem::take(&mut self.states);
        for member in members {
            let known = before.remove(&member.addr);
            let held = match known {
                Some(known) if known.0 == member.state => known,
                _ => {
                    let held = self.all.states.hold(BackendLabels {
                        service: self.service.clone(),
                        backend: member.addr.to_string(),
                        state: member.state.as_str(),
                    });
                    held.set(1);
                    (member.state, held)
                }
            };
            self.states.insert(member.addr, held);
        }
        self.ready.set(1);
        let groups = i64::try_from(plan.groups.len()).unwrap_or(i64::MAX);
        self.groups.set(groups);
        self.spilled(plan);
    }

    /// Tells how much of each zone's calls leaves it, if the service prefers zones.
    fn spilled(&mut self, plan: &Plan) {
        let mut before = std::mem::take(&mut self.spill);
        let zones = plan.layout.zones();
        if zones.is_empty() {
            return;
        }
        let audiences = std::iter::once(NO_ZONE).chain(zones.iter().map(|zone| &**zone));
        for (zone, spilled) in audiences.zip(&plan.spilled) {
            let held = before.remove(zone).unwrap_or_else(|| {
                self.all.zone_spill.hold(ZoneLabels {
                    service: self.service.clone(),
                    zone: zone.to_owned(),
                })
            });
            held.set(*spilled);
            self.spill.insert(zone.to_owned(), held);
        }
    }

    pub(super) fn publisher_failed(&self) {
        self.failures.inc();
    }
}
