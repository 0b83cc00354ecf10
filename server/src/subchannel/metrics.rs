//! What is counted of the connections to backends. Labels are words of this
//! program.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{NotOpened, OwnFaults};

/// Handles to the metrics of connections to backends.
#[derive(Debug, Clone, Default)]
pub struct SubchannelMetrics {
    open: Gauge,
    attempts: Family<ResultLabels, Counter>,
    pub(super) own_faults: OwnFaults,
    tls_reloads: Family<ReloadLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    successful: &'static str,
}

impl SubchannelMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            own_faults: OwnFaults::register(registry),
            ..Self::default()
        };
        registry.register(
            "backend_connections",
            "Connections to backends that are open: each carries health, ORCA and load reports",
            metrics.open.clone(),
        );
        registry.register(
            "backend_connects",
            "Attempts to connect to backends, by result; late is one that the balancer itself was \
             too slow for, own_fault one that it lacked something for (see own_faults)",
            metrics.attempts.clone(),
        );
        registry.register(
            "backend_tls_reloads",
            "Times changed TLS files for backends were read, by whether they could be used",
            metrics.tls_reloads.clone(),
        );
        // What never happened is told as zero.
        for result in ["connected", "refused", "failed", "late", "own_fault"] {
            drop(metrics.attempts.get_or_create(&ResultLabels { result }));
        }
        metrics
    }

    pub(super) fn tls_reloaded(&self, successful: bool) {
        let successful = if successful { "true" } else { "false" };
        let labels = ReloadLabels { successful };
        self.tls_reloads.get_or_create(&labels).inc();
    }

    /// A connection is open until this is dropped.
    pub(super) fn opened(&self) -> Open {
        self.count("connected");
        self.open.inc();
        Open(self.open.clone())
    }

    pub(super) fn not_opened(&self, reason: &NotOpened) {
        self.count(match reason {
            NotOpened::Refused => "refused",
            NotOpened::Failed(_) => "failed",
            NotOpened::Late => "late",
            NotOpened::OwnFault(_) => "own_fault",
        });
    }

    fn count(&self, result: &'static str) {
        self.attempts.get_or_create(&ResultLabels { result }).inc();
    }
}

/// Counts a connection as open.
pub(super) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
