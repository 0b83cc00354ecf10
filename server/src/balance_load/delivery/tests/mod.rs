//! What reaches streams, on a paused clock: no socket is involved.

mod groups;
mod overload;
mod publishing;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::balance_load::BalanceLoadMetrics;
use crate::catalogue::fixtures::*;
use crate::catalogue::{
    Catalogue, CatalogueConfig, CatalogueMetrics, ResolveError, Service, ServiceEntry,
};
use lookaside_core::model::{BackendAddr, Weight};
use lookaside_core::plan::{Clients, Contribution, MemberFields, ServiceSettings, SourceKind};

/// Streams of the services of one balancer.
struct Front {
    deliveries: Deliveries,
    metrics: BalanceLoadMetrics,
}

impl Default for Front {
    fn default() -> Self {
        Self::measured(&mut Registry::default())
    }
}

impl Front {
    fn measured(registry: &mut Registry) -> Self {
        Self {
            deliveries: Deliveries::new(Duration::from_secs(60)),
            metrics: BalanceLoadMetrics::register(registry),
        }
    }

    fn try_follow(
        &self,
        service: &Arc<Service>,
        client: IpAddr,
        connection: &CancellationToken,
    ) -> Result<Subscription, EndReason> {
        let connection = connection.clone();
        self.deliveries
            .subscribe(service, client, connection, &self.metrics)
    }

    /// A stream of the client at this address.
    fn follow(&self, service: &Arc<Service>, client: IpAddr) -> Subscription {
        let connection = CancellationToken::new();
        self.try_follow(service, client, &connection).unwrap()
    }

    fn subscribe(&self, service: &Arc<Service>) -> Subscription {
        self.follow(service, Ipv4Addr::LOCALHOST.into())
    }

    /// Where the clients of a service are.
    fn clients(&self, service: &Service) -> Clients {
        self.deliveries.clients(service)
    }
}

async fn next(subscription: &mut Subscription) -> Update {
    poll_fn(|cx| subscription.poll_next(cx)).await
}

async fn next_group(subscription: &mut Subscription) -> Arc<Group> {
    match next(subscription).await {
        Update::Group(group) => group,
        Update::End(reason) => panic!("ended: {reason:?}"),
    }
}

/// What is there for a stream now, if anything, once what was published reached it.
async fn news(subscription: &mut Subscription) -> Option<Arc<Group>> {
    // The delivery's task has its turn.
    tokio::time::sleep(Duration::from_millis(1)).await;
    match poll_fn(|cx| Poll::Ready(subscription.poll_next(cx))).await {
        Poll::Ready(Update::Group(group)) => Some(group),
        Poll::Ready(Update::End(reason)) => panic!("ended: {reason:?}"),
        Poll::Pending => None,
    }
}

fn listed(group: &Arc<Group>) -> usize {
    match &group.listing {
        Listing::Servers(lists) => lists.spec().backends.len(),
        Listing::Fallback => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_backends_are_all_drained_falls_back() {
    let (catalogue, service) = serving(&[(1, 1.0)]).await;
    let front = Front::default();
    let mut stream = front.subscribe(&service);
    next_group(&mut stream).await;
    catalogue.contribute(service.name(), SourceKind::File, backends(&[(1, 0.0)]));
    let group = next_group(&mut stream).await;
    assert!(matches!(group.listing, Listing::Fallback));
}

#[tokio::test(start_paused = true)]
async fn ordinals_are_dense_and_the_smallest_free_one_is_taken() {
    let (_catalogue, service) = serving(&[(1, 1.0)]).await;
    let front = Front::default();
    let mut streams: Vec<Subscription> = (0..5).map(|_| front.subscribe(&service)).collect();
    assert_eq!(front.deliveries.streams(&service), 5);
    streams.remove(3);
    streams.remove(1);
    assert_eq!(front.deliveries.streams(&service), 3);
    assert_eq!(front.subscribe(&service).ordinal(), 1);
}

#[tokio::test(start_paused = true)]
async fn streams_of_a_removed_service_end_and_none_joins() {
    let (catalogue, service) = serving(&[(1, 1.0)]).await;
    let front = Front::default();
    let mut streams: Vec<Subscription> = (0..20).map(|_| front.subscribe(&service)).collect();
    for stream in &mut streams {
        next_group(stream).await;
    }
    let start = Instant::now();
    catalogue.configure(CatalogueConfig::default());
    let mut ends = BTreeMap::new();
    for stream in &mut streams {
        let end = next(stream).await;
        assert!(matches!(end, Update::End(EndReason::ServiceRemoved)));
        ends.insert(stream.ordinal(), start.elapsed());
    }
    assert!(start.elapsed() > Duration::from_secs(1));
    assert!(start.elapsed() <= Duration::from_secs(2));
    let connection = CancellationToken::new();
    let refused = front.try_follow(&service, Ipv4Addr::LOCALHOST.into(), &connection);
    assert_eq!(refused.err(), Some(EndReason::ServiceRemoved));
    let again = catalogue.resolve(&requested(GREETER)).await;
    assert_eq!(again.err(), Some(ResolveError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_every_stream_within_its_time() {
    let (_catalogue, service) = serving(&[(1, 1.0)]).await;
    let front = Front::default();
    let mut streams: Vec<Subscription> = (0..10).map(|_| front.subscribe(&service)).collect();
    let start = Instant::now();
    front.deliveries.end_all(Duration::from_secs(5)).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    for stream in &mut streams {
        let end = next(stream).await;
        assert!(matches!(end, Update::End(EndReason::ShuttingDown)));
    }
    let connection = CancellationToken::new();
    let refused = front.try_follow(&service, Ipv4Addr::LOCALHOST.into(), &connection);
    assert_eq!(refused.err(), Some(EndReason::ShuttingDown));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_for_a_minute_loses_its_connection() {
    let (catalogue, service) = serving(&[(1, 1.0)]).await;
    let front = Front::default();
    let (stuck, reading) = (CancellationToken::new(), CancellationToken::new());
    let mut streams = [&stuck, &reading].map(|c| {
        let ip = Ipv4Addr::LOCALHOST.into();
        front.try_follow(&service, ip, c).unwrap()
    });
    for stream in &mut streams {
        next_group(stream).await;
    }
    catalogue.contribute(
        service.name(),
        SourceKind::File,
        backends(&[(1, 1.0), (2, 1.0)]),
    );
    let [_stuck_stream, reading_stream] = &mut streams;
    assert_eq!(listed(&next_group(reading_stream).await), 2);
    let start = Instant::now();
    stuck.cancelled().await;
    assert!(start.elapsed() >= Duration::from_secs(59));
    assert!(start.elapsed() <= Duration::from_secs(75));
    assert!(!reading.is_cancelled());
}
