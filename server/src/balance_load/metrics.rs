//! What is counted of `BalanceLoad`.
//!
//! Labels are names out of the configuration and words of this program, never
//! anything a client sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
use crate::catalogue::Service;
use crate::telemetry::{Held, Series};
use lookaside_core::list::ListFrame;
use lookaside_core::model::{DropShare, OverloadDrops, ServiceName};
use lookaside_core::plan::{Clients, ServiceSettings};

/// Calls dropped for a reason that the service does not have (any more).
const OTHER: &str = "other";

/// What clients are counted under whose zone is unknown.
const NO_ZONE: &str = "";

/// Handles to the metrics of `BalanceLoad`.
#[derive(Debug, Clone, Default)]
pub struct BalanceLoadMetrics {
    refused: Family<ReasonLabels, Counter>,
    families: Families,
    services: Arc<DashMap<ServiceName, Arc<ServiceMetrics>>>,
}

#[derive(Debug, Clone, Default)]
struct Families {
    streams: Series<ServiceLabels, Gauge>,
    opened: Series<ServiceLabels, Counter>,
    lists: Series<ServiceLabels, Counter>,
    list_bytes: Series<ServiceLabels, Counter>,
    fallbacks: Series<ServiceLabels, Counter>,
    malformed: Series<ServiceLabels, Counter>,
    second_initial: Series<ServiceLabels, Counter>,
    too_fast: Series<ServiceLabels, Counter>,
    reports: Series<ServiceLabels, Counter>,
    started: Series<ServiceLabels, Counter>,
    finished: Series<ServiceLabels, Counter>,
    failed_to_send: Series<ServiceLabels, Counter>,
    known_received: Series<ServiceLabels, Counter>,
    dropped: Series<DropLabels, Counter>,
    skipped: Series<ServiceLabels, Counter>,
    zone_streams: Series<ZoneLabels, Gauge>,
    stalled: Counter,
}

/// The counters of one service.
#[derive(Debug)]
pub(super) struct ServiceMetrics {
    service: String,
    streams: Held<ServiceLabels, Gauge>,
    opened: Held<ServiceLabels, Counter>,
    lists: Held<ServiceLabels, Counter>,
    list_bytes: Held<ServiceLabels, Counter>,
    fallbacks: Held<ServiceLabels, Counter>,
    malformed: Held<ServiceLabels, Counter>,
    second_initial: Held<ServiceLabels, Counter>,
    too_fast: Held<ServiceLabels, Counter>,
    reports: Held<ServiceLabels, Counter>,
    started: Held<ServiceLabels, Counter>,
    finished: Held<ServiceLabels, Counter>,
    failed_to_send: Held<ServiceLabels, Counter>,
    known_received: Held<ServiceLabels, Counter>,
    /// By category: those of the configuration, and [`OTHER`].
    dropped: Mutex<BTreeMap<String, Held<DropLabels, Counter>>>,
    all_dropped: Series<DropLabels, Counter>,
    skipped: Held<ServiceLabels, Counter>,
    zones: Mutex<BTreeMap<String, Held<ZoneLabels, Gauge>>>,
    all_zones: Series<ZoneLabels, Gauge>,
    stalled: Counter,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ZoneLabels {
    service: String,
    zone: String,
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
            families.streams.family(),
        );
        registry.register(
            "streams_refused",
            "Requests to the balancer port that became no stream, by reason",
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
                "pushes_skipped",
                "Lists not sent to a stream, for they would have been the same though weights \
                 moved",
                &families.skipped,
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
            registry.register(name, help, family.family());
        }
        registry.register(
            "client_calls_dropped",
            "Calls that clients say they dropped as directed, by category",
            families.dropped.family(),
        );
        registry.register(
            "stalled_connections",
            "Connections closed because a stream on them took no list for 60 s",
            families.stalled.clone(),
        );
        registry.register(
            "zone_streams",
            "BalanceLoad streams of a service by the zone of the client",
            families.zone_streams.family(),
        );
        // What never happened is told as zero.
        for reason in Refusal::REASONS {
            drop(metrics.refused.get_or_create(&ReasonLabels { reason }));
        }
        metrics
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        let reason = refusal.reason();
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// These are the services: each has its counters from now on, and those of others end
    /// with their last streams.
    pub(super) fn follow(&self, services: &[Arc<Service>]) {
        let names: BTreeSet<&ServiceName> = services.iter().map(|s| s.name()).collect();
        self.services.retain(|name, _| names.contains(name));
        for service in services {
            let metrics = self.service(service.name());
            metrics.follow_drops(&service.settings());
        }
    }

    /// The counters of a service that is configured.
    pub(super) fn service(&self, name: &ServiceName) -> Arc<ServiceMetrics> {
        let service = self.services.entry(name.clone());
        let service = service.or_insert_with(|| Arc::new(self.families.of(name)));
        Arc::clone(&service)
    }
}

impl Families {
    fn of(&self, name: &ServiceName) -> ServiceMetrics {
        let service = name.to_string();
        let labels = || ServiceLabels {
            service: service.clone(),
        };
        ServiceMetrics {
            streams: self.streams.hold(labels()),
            opened: self.opened.hold(labels()),
            lists: self.lists.hold(labels()),
            list_bytes: self.list_bytes.hold(labels()),
            fallbacks: self.fallbacks.hold(labels()),
            malformed: self.malformed.hold(labels()),
            second_initial: self.second_initial.hold(labels()),
            too_fast: self.too_fast.hold(labels()),
            reports: self.reports.hold(labels()),
            started: self.started.hold(labels()),
            finished: self.finished.hold(labels()),
            failed_to_send: self.failed_to_send.hold(labels()),
            known_received: self.known_received.hold(labels()),
            dropped: Mutex::default(),
            all_dropped: self.dropped.clone(),
            skipped: self.skipped.hold(labels()),
            zones: Mutex::default(),
            all_zones: self.zone_streams.clone(),
            stalled: self.stalled.clone(),
            service,
        }
    }
}

impl ServiceMetrics {
    /// The service drops calls in these categories, and says so from the start.
    fn follow_drops(&self, settings: &ServiceSettings) {
        let drops = settings.drops.iter().map(|drop| drop.category.as_str());
        let overload = settings.overload.map(|_| OverloadDrops::CATEGORY);
        let categories: BTreeSet<&str> = drops.chain(overload).chain([OTHER]).collect();
        let mut dropped = self.dropped();
        dropped.retain(|category, _| categories.contains(category.as_str()));
        for category in categories {
            if !dropped.contains_key(category) {
                dropped.insert(category.to_owned(), self.drops_of(category));
            }
        }
    }

    fn drops_of(&self, category: &str) -> Held<DropLabels, Counter> {
        self.all_dropped.hold(DropLabels {
            service: self.service.clone(),
            category: category.to_owned(),
        })
    }

    fn dropped(&self) -> MutexGuard<'_, BTreeMap<String, Held<DropLabels, Counter>>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

    /// So many streams are sent the same as before, though their group changed.
    pub(super) fn pushes_skipped(&self, count: usize) {
        self.skipped.inc_by(count as u64);
    }

    pub(super) fn stalled(&self, count: usize) {
        self.stalled.inc_by(count as u64);
    }

    /// Tells where the service's clients are, if it prefers zones.
    pub(super) fn clients(&self, clients: &Clients) {
        let layout = &clients.layout;
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *zones);
        if layout.zones().is_empty() {
            return;
        }
        let named = layout.zones().iter().map(|zone| &**zone);
        for (audience, zone) in std::iter::once(NO_ZONE).chain(named).enumerate() {
            let held = before.remove(zone).unwrap_or_else(|| {
                self.all_zones.hold(ZoneLabels {
                    service: self.service.clone(),
                    zone: zone.to_owned(),
                })
            });
            let first = layout.list(audience, 0);
            let streams = clients.streams[first..first + layout.groups()].iter();
            held.set(streams.sum::<u32>().into());
            zones.insert(zone.to_owned(), held);
        }
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
        let mut dropped = self.dropped();
        for (category, calls) in counts.dropped {
            let category = category.unwrap_or(OTHER);
            match dropped.get(category) {
                Some(counter) => {
                    counter.inc_by(calls);
                }
                None => {
                    let counter = self.drops_of(category);
                    counter.inc_by(calls);
                    dropped.insert(category.to_owned(), counter);
                }
            }
        }
        drop(dropped);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Catalogue, CatalogueConfig, CatalogueMetrics, ServiceEntry};
    use lookaside_core::model::DropCategory;
    use lookaside_core::plan::SourceKind;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    fn entry(category: &str) -> ServiceEntry {
        let category = DropCategory::new(category).unwrap();
        ServiceEntry {
            name: ServiceName::parse("greeter.test").unwrap(),
            aliases: Vec::new(),
            settings: ServiceSettings {
                drops: vec![DropShare::new(category, 0.1).unwrap()],
                ..ServiceSettings::default()
            },
            sources: [SourceKind::File.into()].into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_has_its_counters_from_its_beginning_to_its_last_stream() {
        let mut registry = Registry::default();
        let metrics = BalanceLoadMetrics::register(&mut registry);
        let catalogue = Catalogue::new(CatalogueMetrics::default());
        let follow = |services: Vec<ServiceEntry>| {
            catalogue.configure(CatalogueConfig { services });
            metrics.follow(&catalogue.services());
        };
        follow(vec![entry("maintenance")]);
        for zero in [
            "streams{service=\"greeter.test\"} 0",
            "streams_opened_total{service=\"greeter.test\"} 0",
            "lists_sent_total{service=\"greeter.test\"} 0",
            "client_calls_dropped_total{service=\"greeter.test\",category=\"maintenance\"} 0",
            "client_calls_dropped_total{service=\"greeter.test\",category=\"other\"} 0",
            "streams_refused_total{reason=\"unknown_service\"} 0",
        ] {
            assert!(text(&registry).contains(zero), "{zero}");
        }
        let name = ServiceName::parse("greeter.test").unwrap();
        let stream = metrics.service(&name).open();
        follow(vec![]);
        assert!(text(&registry).contains("streams{service=\"greeter.test\"} 1"));
        // It comes back before its last stream is gone.
        follow(vec![entry("trial")]);
        drop(stream);
        let now = text(&registry);
        assert!(now.contains("streams{service=\"greeter.test\"} 0"), "{now}");
        assert!(now.contains("streams_opened_total{service=\"greeter.test\"} 1"));
        assert!(now.contains("category=\"trial\"") && !now.contains("maintenance"));
        follow(vec![]);
        assert!(!text(&registry).contains("greeter.test"));
    }

    #[test]
    fn every_reason_for_a_refusal_is_among_those_told_as_zero() {
        for refusal in [
            Refusal::Method,
            Refusal::Encoding(String::new()),
            Refusal::Overloaded,
            Refusal::PeerOverLimit(1),
            Refusal::Ended,
            Refusal::StatsFirst,
            Refusal::ShuttingDown,
        ] {
            let reason = refusal.reason();
            assert!(Refusal::REASONS.contains(&reason), "{reason}");
        }
    }
}
