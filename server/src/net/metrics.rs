//! What happens at the port.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles to the metrics of connections.
#[derive(Debug, Clone, Default)]
pub struct NetMetrics {
    open: Gauge,
    accepted: Counter,
    refused: Family<ReasonLabels, Counter>,
    accept_errors: Counter,
    closed: Family<ReasonLabels, Counter>,
    tls_reloads: Family<ReloadLabels, Counter>,
}

/// Why a connection was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Refused {
    /// The process has as many as it may.
    Total,
    /// Its peer has as many as it may.
    Peer,
    /// The TLS handshake failed, or settled on something else than HTTP/2.
    Tls,
    /// TLS and HTTP/2 did not get started in time.
    HandshakeTimeout,
}

/// Why the balancer closed a connection that it had served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Closed {
    /// There were bytes to send and the peer took none.
    Stalled,
    /// Somebody cancelled [`super::Peer::connection`].
    Cancelled,
    /// Its client's certificate is no longer trusted.
    Untrusted,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    successful: &'static str,
}

impl NetMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("connections", "Connections open now", metrics.open.clone());
        registry.register(
            "connections_accepted",
            "Connections accepted",
            metrics.accepted.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections that were not served, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections that the balancer closed, by reason",
            metrics.closed.clone(),
        );
        registry.register(
            "accept_errors",
            "Times a connection could not be accepted",
            metrics.accept_errors.clone(),
        );
        registry.register(
            "tls_reloads",
            "Times changed TLS files were read, by whether they could be used",
            metrics.tls_reloads.clone(),
        );
        metrics
    }

    pub(super) fn opened(&self) {
        self.accepted.inc();
        self.open.inc();
    }

    pub(super) fn ended(&self) {
        self.open.dec();
    }

    pub(super) fn refused(&self, reason: Refused) {
        let reason = match reason {
            Refused::Total => "total",
            Refused::Peer => "peer",
            Refused::Tls => "tls",
            Refused::HandshakeTimeout => "handshake_timeout",
        };
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(super) fn closed(&self, reason: Closed) {
        let reason = match reason {
            Closed::Stalled => "stalled",
            Closed::Cancelled => "cancelled",
            Closed::Untrusted => "untrusted",
        };
        self.closed.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(super) fn accept_failed(&self) {
        self.accept_errors.inc();
    }

    pub(super) fn tls_reloaded(&self, successful: bool) {
        let successful = if successful { "true" } else { "false" };
        let labels = ReloadLabels { successful };
        self.tls_reloads.get_or_create(&labels).inc();
    }
}
