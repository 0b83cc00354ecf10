//! What the fleet counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::snapshot::Snapshot;
use super::weight_metrics::{Exported, WeightMetrics};
use crate::model::ServiceName;
use crate::plan::BackendState;

/// Handles to the fleet's metrics. Labels come from the configuration alone,
/// so that nothing from the wire can add one.
#[derive(Debug, Clone, Default)]
pub struct FleetMetrics {
    backends: Family<BackendLabels, Gauge>,
    publishes: Family<ServiceLabels, Counter>,
    failures: Family<ServiceLabels, Counter>,
    stalled: Counter,
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
    }
}

fn labels(service: &ServiceName) -> ServiceLabels {
    ServiceLabels {
        service: service.to_string(),
    }
}
