//! What is counted about the configuration file.

use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the metrics of the configuration file.
#[derive(Debug, Clone, Default)]
pub struct ConfigMetrics {
    successful: Gauge,
    timestamp: Gauge<f64, AtomicU64>,
    restart_required: Gauge,
    reloads: Family<Outcomes, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcomes {
    outcome: &'static str,
}

/// What became of the file when it was read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReloadResult {
    Applied,
    Unchanged,
    Refused,
    Held,
}

impl ReloadResult {
    const ALL: [Self; 4] = [Self::Applied, Self::Unchanged, Self::Refused, Self::Held];

    fn labels(self) -> Outcomes {
        let outcome = match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Held => "held",
        };
        Outcomes { outcome }
    }
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
        registry.register(
            "config_reloads",
            "Times the configuration file was read again, by what became of it",
            metrics.reloads.clone(),
        );
        for ended in ReloadResult::ALL {
            metrics.reloads.get_or_create(&ended.labels()).inc_by(0);
        }
        metrics
    }

    /// The file was read again, and this became of it.
    pub(super) fn ended(&self, ended: ReloadResult) {
        match ended {
            ReloadResult::Applied | ReloadResult::Unchanged => self.succeeded(),
            ReloadResult::Refused | ReloadResult::Held => self.failed(),
        }
        self.reloads.get_or_create(&ended.labels()).inc();
    }

    pub(super) fn succeeded(&self) {
        self.successful.set(1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A clock before 1970 is wrong anyway.
        self.timestamp.set(now.unwrap_or_default().as_secs_f64());
    }

    fn failed(&self) {
        self.successful.set(0);
    }

    pub(super) fn restart_required(&self, required: bool) {
        self.restart_required.set(required.into());
    }
}
