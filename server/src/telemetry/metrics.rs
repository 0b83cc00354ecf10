//! The registry of metrics.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::exposition::{Exposition, to_text};

/// Every metric of the process: its own under the prefix `lookaside_`, and those that
/// every process has. Clones are handles to the same registry.
#[derive(Debug, Clone)]
pub struct MetricsRegistry {
    // A std mutex: held while metrics are registered or written out.
    registry: Arc<Mutex<Registry>>,
    process: Arc<Registry>,
}

impl Default for MetricsRegistry {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("lookaside");
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the balancer", version);
        Self {
            registry: Arc::new(Mutex::new(registry)),
            process: Arc::new(process()),
        }
    }
}

impl MetricsRegistry {
    /// Registers the metrics of a module.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.lock())
    }

    /// Every metric, in this format. May take milliseconds.
    #[must_use]
    pub fn encode(&self, exposition: Exposition) -> String {
        let mut page = String::new();
        // Writing to a String fails only if a metric fails to describe itself.
        let _ = encode_registry(&mut page, &self.lock());
        let _ = encode_registry(&mut page, &self.process);
        match exposition {
            Exposition::Text => to_text(&page),
            Exposition::OpenMetrics => {
                let _ = encode_eof(&mut page);
                page
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The metrics that every process has.
fn process() -> Registry {
    #[allow(unused_mut, reason = "there are none but on Linux")]
    let mut registry = Registry::default();
    #[cfg(target_os = "linux")]
    registry.register_collector(Box::new(super::process::ProcessCollector));
    registry
}
