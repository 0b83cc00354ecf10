//! What happens at the admin port.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the metrics of the admin port.
#[derive(Debug, Clone, Default)]
pub struct AdminMetrics {
    pub(super) connections: Gauge,
    pub(super) evicted: Counter,
}

impl AdminMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "admin_connections",
            "Connections to the admin port open now",
            metrics.connections.clone(),
        );
        registry.register(
            "admin_connections_evicted",
            "Idle connections to the admin port that made room for others",
            metrics.evicted.clone(),
        );
        metrics
    }
}
