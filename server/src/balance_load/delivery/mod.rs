//! How the snapshots of a service reach its streams.
//!
//! ```text
//!  Snapshots ─► GroupLists (encoded lazily) ─► whose list changed? ─► wake them
//!                                                                      │
//!  catalogue ◄─ how many clients each group has ◄─ Subscribers ◄───────┘
//! ```
//!
//! A service that has or had streams has a [`Delivery`], with one task that follows its
//! snapshots. It says in return where the clients are, and closes the connections of
//! those that take nothing.

mod deliveries;
mod lists;
mod seating;
mod subscribers;

#[cfg(test)]
mod tests;

pub(super) use deliveries::Deliveries;
pub(super) use lists::{Group, Listing};
pub(super) use subscribers::{EndReason, Subscription, Update};

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::lists::GroupLists;
use self::seating::{Client, Seat};
use self::subscribers::Subscribers;
use super::metrics::ServiceMetrics;
use crate::catalogue::{Service, Snapshot};
use crate::wait::Task;

/// Stalled streams are looked for so many times in the time that they have.
const STALL_CHECKS: u32 = 6;

/// How often it is looked whether clients are elsewhere than lists are made for.
const CLIENTS_CHECK: Duration = Duration::from_secs(5);

/// Streams of a removed service end spread over this time.
const REMOVAL_JITTER: Duration = Duration::from_secs(2);

/// The streams of one service, and what they are sent.
#[derive(Debug)]
pub(super) struct Delivery {
    service: Arc<Service>,
    metrics: Arc<ServiceMetrics>,
    started: Instant,
    /// A stream that has not taken a list for this long loses its connection.
    list_timeout: Duration,
    lists: ArcSwapOption<GroupLists>,
    subscribers: Subscribers,
}

impl Delivery {
    fn new(service: Arc<Service>, list_timeout: Duration, metrics: Arc<ServiceMetrics>) -> Self {
        Self {
            service,
            metrics,
            started: Instant::now(),
            list_timeout,
            lists: ArcSwapOption::empty(),
            subscribers: Subscribers::default(),
        }
    }

    /// The service that its streams follow.
    pub(super) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Joins the streams, for a client at `ip`: where it is says which backends it gets,
    /// if not all get all. Cancelling `connection` must close the stream's connection:
    /// that is what happens to a client that takes nothing for too long.
    ///
    /// # Errors
    /// If the service is going away.
    fn subscribe(
        self: &Arc<Self>,
        ip: IpAddr,
        connection: CancellationToken,
    ) -> Result<Subscription, EndReason> {
        let client = Client::new(ip, self.service.name());
        self.subscribers.join(self, client, connection)
    }

    /// The group of a stream that sits here; `None` if there is nothing to send, or
    /// the stream is about to get another seat.
    fn group_of(&self, seat: Seat) -> Option<Arc<Group>> {
        let lists = self.lists.load();
        lists.as_ref()?.group(seat).map(Arc::clone)
    }

    /// Shows a snapshot to the streams.
    fn deliver(&self, snapshot: &Snapshot) {
        let before = self.lists.load_full();
        if before
            .as_ref()
            .is_some_and(|before| before.version == snapshot.version)
        {
            return;
        }
        let lists = Arc::new(GroupLists::next(before.as_deref(), snapshot));
        // A stream whose seat is of a layout that is not shown yet waits for it.
        self.subscribers.seat(&lists.layout, lists.epoch);
        self.lists.store(Some(Arc::clone(&lists)));
        let same = self.subscribers.wake(&lists, self.started.elapsed());
        self.metrics.pushes_skipped(same);
    }

    /// Says where the clients are.
    fn count_clients(&self) {
        let clients = self.subscribers.clients();
        self.metrics.clients(&clients);
        if clients.layout.lists() > 1 {
            self.service.set_clients(clients);
        }
    }

    fn close_stalled(&self) {
        let now = self.started.elapsed();
        let closed = self.subscribers.close_stalled(now, self.list_timeout);
        if closed > 0 {
            self.metrics.stalled(closed);
            warn!(
                service = %self.service.name(),
                closed,
                "closed connections of clients that took no list for {:?}",
                self.list_timeout
            );
        }
    }
}

/// Follows the snapshots until the service is removed, and then ends the streams.
impl Task for Arc<Delivery> {
    async fn run(&mut self) {
        let mut snapshots = self.service.snapshots();
        let mut clients_check = interval(CLIENTS_CHECK);
        let mut stall_check = interval(self.list_timeout / STALL_CHECKS);
        loop {
            tokio::select! {
                snapshot = snapshots.next() => match snapshot {
                    Some(snapshot) => self.deliver(&snapshot),
                    None => break,
                },
                _ = clients_check.tick() => self.count_clients(),
                _ = stall_check.tick() => self.close_stalled(),
            }
        }
        self.subscribers
            .end_all(EndReason::ServiceRemoved, REMOVAL_JITTER)
            .await;
    }

    fn failed(&mut self, restart_in: Duration) {
        error!(
            service = %self.service.name(),
            ?restart_in,
            "delivery of lists failed; clients keep the list they have"
        );
    }
}
