//! What the fleet counts.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::snapshot::Snapshot;
use super::weight_metrics::{Exported, WeightMetrics};
use crate::model::ServiceName;
use crate::plan::{BackendState, Clients};

/// Handles to the fleet's metrics. Labels come from the configuration alone,
/// so that nothing from the wire can add one.
#[derive(Debug, Clone, Default)]
pub struct FleetMetrics {
    backends: Family<BackendLabels, Gauge>,
    publishes: Family<ServiceLabels, Counter>,
    failures: Family<ServiceLabels, Counter>,
    stalled: Counter,
    groups: Family<ServiceLabels, Gauge>,
    skipped: Family<ServiceLabels, Counter>,
    zone_streams: Family<ZoneLabels, Gauge>,
    zone_spill: Family<ZoneLabels, Gauge<f64, AtomicU64>>,
    /// Services and zones that have labels.
    zones: Arc<Mutex<BTreeSet<ZoneLabels>>>,
    weights: WeightMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    service: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct ZoneLabels {
    service: String,
    zone: String,
}

/// What clients are counted under whose zone nobody knows.
const NO_ZONE: &str = "";

impl FleetMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "backends",
            "Backends of a service by state",
            metrics.backends.clone(),
        );
        registry.register(
            "publishes",
            "Times a service's lists changed",
            metrics.publishes.clone(),
        );
        registry.register(
            "publisher_failures",
            "Times a service's publisher failed and was started again",
            metrics.failures.clone(),
        );
        registry.register(
            "stalled_connections",
            "Connections closed because a stream on them took no list for 60 s",
            metrics.stalled.clone(),
        );
        registry.register(
            "groups",
            "Groups of clients that a service has, each with a list of its own",
            metrics.groups.clone(),
        );
        registry.register(
            "pushes_skipped",
            "Lists not sent to a stream, for they would have been the same though weights moved",
            metrics.skipped.clone(),
        );
        registry.register(
            "zone_streams",
            "BalanceLoad streams of a service by the zone of the client",
            metrics.zone_streams.clone(),
        );
        registry.register(
            "zone_spill",
            "Share of the calls of a zone's clients that go to backends of other zones",
            metrics.zone_spill.clone(),
        );
        metrics.weights.register(registry);
        metrics
    }

    /// Where a service's weights are told.
    pub(super) fn weights(&self, service: &ServiceName) -> Exported {
        Exported::new(self.weights.clone(), service.clone())
    }

    pub(super) fn published(&self, service: &ServiceName, snapshot: &Snapshot) {
        for state in BackendState::ALL {
            let members = snapshot.plan.members.iter();
            let count = members.filter(|member| member.state == state).count();
            let labels = BackendLabels {
                service: service.to_string(),
                state: state.as_str(),
            };
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.backends.get_or_create(&labels).set(count);
        }
        self.publishes.get_or_create(&labels(service)).inc();
        let groups = i64::try_from(snapshot.groups.len()).unwrap_or(i64::MAX);
        self.groups.get_or_create(&labels(service)).set(groups);
    }

    /// Tells where a service's clients are, if it prefers zones.
    pub(super) fn clients(&self, service: &ServiceName, snapshot: &Snapshot, clients: &Clients) {
        let layout = &clients.layout;
        let mut known = BTreeSet::new();
        if !layout.zones().is_empty() && *layout == snapshot.plan.layout {
            let zones = layout.zones().iter().map(|zone| &**zone);
            let audiences = std::iter::once(NO_ZONE).chain(zones);
            for (audience, zone) in audiences.enumerate() {
                let labels = ZoneLabels {
                    service: service.to_string(),
                    zone: zone.to_owned(),
                };
                let first = layout.list(audience, 0);
                let streams = clients.streams[first..first + layout.groups()].iter();
                let streams: u32 = streams.sum();
                self.zone_streams.get_or_create(&labels).set(streams.into());
                let spilled = snapshot.plan.spilled[audience];
                self.zone_spill.get_or_create(&labels).set(spilled);
                known.insert(labels);
            }
        }
        let mut all = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|labels| {
            let gone = labels.service == service.as_str() && !known.contains(labels);
            if gone {
                self.zone_streams.remove(labels);
                self.zone_spill.remove(labels);
            }
            !gone
        });
        all.extend(known);
    }

    pub(super) fn pushes_skipped(&self, service: &ServiceName, count: usize) {
        if count > 0 {
            let skipped = self.skipped.get_or_create(&labels(service));
            skipped.inc_by(count as u64);
        }
    }

    pub(super) fn publisher_failed(&self, service: &ServiceName) {
        self.failures.get_or_create(&labels(service)).inc();
    }

    pub(super) fn stalled(&self, count: usize) {
        self.stalled.inc_by(count as u64);
    }

    pub(super) fn forget(&self, service: &ServiceName) {
        for state in BackendState::ALL {
            self.backends.remove(&BackendLabels {
                service: service.to_string(),
                state: state.as_str(),
            });
        }
        self.publishes.remove(&labels(service));
        self.failures.remove(&labels(service));
        self.groups.remove(&labels(service));
        self.skipped.remove(&labels(service));
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.retain(|labels| {
            let gone = labels.service == service.as_str();
            if gone {
                self.zone_streams.remove(labels);
                self.zone_spill.remove(labels);
            }
            !gone
        });
    }
}

fn labels(service: &ServiceName) -> ServiceLabels {
    ServiceLabels {
        service: service.to_string(),
    }
}
