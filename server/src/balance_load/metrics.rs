//! What is counted of `BalanceLoad`.
//!
//! Labels are names out of the configuration and words of this program, never
//! anything a client sent.

use std::sync::Arc;

use bytes::Buf as _;
use dashmap::DashMap;
use lookaside_proto::lb_v1::ClientStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::refusal::Refusal;
use super::stats::Counts;
use crate::model::{DropShare, ServiceName};
use crate::server_list::ListFrame;

/// Calls dropped for a reason that the service does not have (any more).
const OTHER: &str = "other";

/// Handles to the metrics of `BalanceLoad`.
#[derive(Debug, Clone, Default)]
pub struct BalanceLoadMetrics {
    refused: Family<ReasonLabels, Counter>,
    families: Families,
    services: Arc<DashMap<ServiceName, Arc<ServiceMetrics>>>,
}

#[derive(Debug, Clone, Default)]
struct Families {
    streams: Family<ServiceLabels, Gauge>,
    opened: Family<ServiceLabels, Counter>,
    lists: Family<ServiceLabels, Counter>,
    list_bytes: Family<ServiceLabels, Counter>,
    fallbacks: Family<ServiceLabels, Counter>,
    malformed: Family<ServiceLabels, Counter>,
    second_initial: Family<ServiceLabels, Counter>,
    too_fast: Family<ServiceLabels, Counter>,
    reports: Family<ServiceLabels, Counter>,
    started: Family<ServiceLabels, Counter>,
    finished: Family<ServiceLabels, Counter>,
    failed_to_send: Family<ServiceLabels, Counter>,
    known_received: Family<ServiceLabels, Counter>,
    dropped: Family<DropLabels, Counter>,
}

/// The counters of one service.
#[derive(Debug)]
pub(super) struct ServiceMetrics {
    service: String,
    streams: Gauge,
    opened: Counter,
    lists: Counter,
    list_bytes: Counter,
    fallbacks: Counter,
    malformed: Counter,
    second_initial: Counter,
    too_fast: Counter,
    reports: Counter,
    started: Counter,
    finished: Counter,
    failed_to_send: Counter,
    known_received: Counter,
    dropped: Family<DropLabels, Counter>,
}

/// Counts a stream as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream(Arc<ServiceMetrics>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabels {
    service: String,
    category: String,
}

impl BalanceLoadMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let families = &metrics.families;
        registry.register(
            "streams",
            "BalanceLoad streams open now",
            families.streams.clone(),
        );
        registry.register(
            "streams_refused",
            "BalanceLoad requests that became no stream, by reason",
            metrics.refused.clone(),
        );
        let counters = [
            (
                "streams_opened",
                "BalanceLoad streams that began",
                &families.opened,
            ),
            ("lists_sent", "Server lists sent", &families.lists),
            (
                "list_bytes_sent",
                "Bytes of the server lists sent",
                &families.list_bytes,
            ),
            (
                "fallbacks_sent",
                "Times a client was told to fall back",
                &families.fallbacks,
            ),
            (
                "malformed_requests",
                "Messages and counts of clients that were ignored because they make no sense",
                &families.malformed,
            ),
            (
                "second_initial_requests",
                "Times an initial_request was ignored because it was not the stream's first",
                &families.second_initial,
            ),
            (
                "client_messages_too_fast",
                "Messages of clients that were not read because they came faster than any client \
                 has reason to send them",
                &families.too_fast,
            ),
            (
                "client_reports",
                "Reports of client statistics",
                &families.reports,
            ),
            (
                "client_calls_started",
                "Calls that clients say they started",
                &families.started,
            ),
            (
                "client_calls_finished",
                "Calls that clients say have finished",
                &families.finished,
            ),
            (
                "client_calls_failed_to_send",
                "Calls that clients say never left them",
                &families.failed_to_send,
            ),
            (
                "client_calls_known_received",
                "Calls that clients say a backend has received",
                &families.known_received,
            ),
        ];
        for (name, help, family) in counters {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "client_calls_dropped",
            "Calls that clients say they dropped as directed, by category",
            families.dropped.clone(),
        );
        metrics
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        let reason = refusal.reason();
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// The counters of a service that is configured.
    pub(super) fn service(&self, name: &ServiceName) -> Arc<ServiceMetrics> {
        if let Some(service) = self.services.get(name) {
            return Arc::clone(&service);
        }
        let service = Arc::new(self.families.of(name));
        self.services.insert(name.clone(), Arc::clone(&service));
        service
    }
}

impl Families {
    fn of(&self, name: &ServiceName) -> ServiceMetrics {
        let service = name.to_string();
        let labels = ServiceLabels {
            service: service.clone(),
        };
        let counter = |family: &Family<ServiceLabels, Counter>| {
            let counter = family.get_or_create(&labels);
            Counter::clone(&counter)
        };
        ServiceMetrics {
            service,
            streams: Gauge::clone(&self.streams.get_or_create(&labels)),
            opened: counter(&self.opened),
            lists: counter(&self.lists),
            list_bytes: counter(&self.list_bytes),
            fallbacks: counter(&self.fallbacks),
            malformed: counter(&self.malformed),
            second_initial: counter(&self.second_initial),
            too_fast: counter(&self.too_fast),
            reports: counter(&self.reports),
            started: counter(&self.started),
            finished: counter(&self.finished),
            failed_to_send: counter(&self.failed_to_send),
            known_received: counter(&self.known_received),
            dropped: self.dropped.clone(),
        }
    }
}

impl ServiceMetrics {
    /// Counts a stream that begins.
    pub(super) fn open(self: Arc<Self>) -> OpenStream {
        self.streams.inc();
        self.opened.inc();
        OpenStream(self)
    }

    pub(super) fn list_sent(&self, frame: &ListFrame) {
        self.lists.inc();
        self.list_bytes.inc_by(frame.remaining() as u64);
    }

    pub(super) fn fallback_sent(&self) {
        self.fallbacks.inc();
    }

    pub(super) fn malformed(&self) {
        self.malformed.inc();
    }

    pub(super) fn too_fast(&self) {
        self.too_fast.inc();
    }

    pub(super) fn second_initial(&self) {
        self.second_initial.inc();
    }

    /// Counts a client's report; `drops` are the service's drop categories.
    pub(super) fn record(&self, stats: &ClientStats, drops: &[DropShare]) {
        let counts = Counts::read(stats, drops);
        self.reports.inc();
        self.started.inc_by(counts.started);
        self.finished.inc_by(counts.finished);
        self.failed_to_send.inc_by(counts.failed_to_send);
        self.known_received.inc_by(counts.known_received);
        for (category, calls) in counts.dropped {
            let labels = DropLabels {
                service: self.service.clone(),
                category: category.unwrap_or(OTHER).to_owned(),
            };
            self.dropped.get_or_create(&labels).inc_by(calls);
        }
        if counts.implausible {
            self.malformed.inc();
        }
    }
}

impl OpenStream {
    pub(super) fn service(&self) -> &ServiceMetrics {
        &self.0
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.dec();
    }
}
