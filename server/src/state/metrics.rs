//! What is counted about the state.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the metrics of the state file.
#[derive(Debug, Clone, Default)]
pub struct StateMetrics {
    successful: Gauge,
    timestamp: Gauge<f64, AtomicU64>,
    services: Gauge,
    loaded: Gauge<f64, AtomicU64>,
}

impl StateMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "state_last_save_successful",
            "Whether what services learned could be saved the last time; 1 before the first",
            metrics.successful.clone(),
        );
        registry.register(
            "state_last_save_success_timestamp_seconds",
            "When what services learned was last saved, in Unix time; 0 before the first",
            metrics.timestamp.clone(),
        );
        registry.register(
            "state_services",
            "Services in the state that was last saved",
            metrics.services.clone(),
        );
        registry.register(
            "state_loaded_age_seconds",
            "How old the state was that the balancer began with; NaN if it began with none",
            metrics.loaded.clone(),
        );
        metrics
    }

    pub(super) fn loaded(&self, age: Option<Duration>) {
        self.successful.set(1);
        self.loaded
            .set(age.map_or(f64::NAN, |age| age.as_secs_f64()));
    }

    pub(super) fn saved(&self, services: usize) {
        self.successful.set(1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A clock before 1970 is wrong anyway.
        self.timestamp.set(now.unwrap_or_default().as_secs_f64());
        self.services
            .set(i64::try_from(services).unwrap_or(i64::MAX));
    }

    pub(super) fn failed(&self) {
        self.successful.set(0);
    }
}
