//! What is counted about the configuration file.

use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the metrics of the configuration file.
#[derive(Debug, Clone, Default)]
pub struct ConfigMetrics {
    successful: Gauge,
    timestamp: Gauge<f64, AtomicU64>,
    restart_required: Gauge,
}

impl ConfigMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "config_last_reload_successful",
            "Whether the configuration file, as it was last read, is in force",
            metrics.successful.clone(),
        );
        registry.register(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration file was last read and found right, in Unix time",
            metrics.timestamp.clone(),
        );
        registry.register(
            "config_restart_required",
            "Whether the configuration file has changes that only a restart applies",
            metrics.restart_required.clone(),
        );
        metrics
    }

    pub(super) fn succeeded(&self) {
        self.successful.set(1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A clock before 1970 is wrong anyway.
        self.timestamp.set(now.unwrap_or_default().as_secs_f64());
    }

    pub(super) fn failed(&self) {
        self.successful.set(0);
    }

    pub(super) fn restart_required(&self, required: bool) {
        self.restart_required.set(required.into());
    }
}
