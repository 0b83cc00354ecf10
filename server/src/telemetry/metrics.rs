//! The registry of metrics.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Every metric of the process, under the prefix `lookaside_`. Clones are
/// handles to the same registry.
#[derive(Debug, Clone)]
pub struct MetricsRegistry {
    // A std mutex: held while metrics are registered or written out.
    registry: Arc<Mutex<Registry>>,
}

impl Default for MetricsRegistry {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("lookaside");
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the balancer", version);
        Self {
            registry: Arc::new(Mutex::new(registry)),
        }
    }
}

impl MetricsRegistry {
    /// Registers the metrics of a module.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.lock())
    }

    /// Every metric, in OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String fails only if a metric fails to describe itself.
        if encode(&mut text, &self.lock()).is_err() {
            text.push_str("# EOF\n");
        }
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
