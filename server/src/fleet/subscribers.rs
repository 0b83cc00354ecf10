//! The streams of a service, and how a publish reaches them.
//!
//! There is no queue: a stream has a waker, and looks at the service's newest
//! snapshot when it is woken. What it has not read yet is replaced, not piled
//! up, and no stream waits for another.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::service::Service;
use super::snapshot::Group;

/// Streams woken per look at the table: the lock is held for the copying of
/// so many handles, some microseconds.
const WAKE_CHUNK: usize = 256;

/// Why the balancer ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The service is no longer configured.
    ServiceRemoved,
    /// The balancer shuts down.
    ShuttingDown,
}

/// News for a stream.
#[derive(Debug)]
pub enum Update {
    /// Send this, unless something newer comes before it is sent.
    Group(Arc<Group>),
    /// End the stream.
    End(EndReason),
}

/// A stream's place among its service's subscribers; dropping it leaves.
#[derive(Debug)]
pub struct Subscription {
    service: Arc<Service>,
    slot: Arc<Slot>,
    ordinal: usize,
    delivered: Option<u64>,
}

/// What a stream and its service share.
#[derive(Debug)]
struct Slot {
    waker: AtomicWaker,
    end: OnceLock<EndReason>,
    /// Milliseconds after the service's start, plus one, at which the stream
    /// fell behind; 0 while it is not behind.
    behind_since: AtomicU64,
    connection: CancellationToken,
}

/// Every subscriber of one service.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    // A std mutex: it is held for a few instructions, never over an await.
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Option<Arc<Slot>>>,
    free: BinaryHeap<Reverse<usize>>,
    closed: Option<EndReason>,
}

impl Subscription {
    /// Number of the stream among those of its service: dense, the smallest
    /// free one is taken. It picks the stream's list variant.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        self.ordinal as u64
    }

    /// The service it is subscribed to.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The newest thing to send that has not been returned before. The first
    /// call returns the current group at once.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Update> {
        // Registered first, so that no publish falls between look and sleep.
        self.slot.waker.register(cx.waker());
        if let Some(reason) = self.slot.end.get() {
            return Poll::Ready(Update::End(*reason));
        }
        let Some(group) = self.service.group_of(self.ordinal) else {
            return Poll::Pending;
        };
        self.slot.behind_since.store(0, Ordering::Relaxed);
        if self.delivered == Some(group.version) {
            return Poll::Pending;
        }
        self.delivered = Some(group.version);
        Poll::Ready(Update::Group(group))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.service.subscribers().leave(self.ordinal);
    }
}

impl Subscribers {
    /// A place for a stream whose connection `connection` closes.
    pub(super) fn join(
        &self,
        service: &Arc<Service>,
        connection: CancellationToken,
    ) -> Result<Subscription, EndReason> {
        let slot = Arc::new(Slot {
            waker: AtomicWaker::new(),
            end: OnceLock::new(),
            behind_since: AtomicU64::new(0),
            connection,
        });
        let mut table = self.lock();
        if let Some(reason) = table.closed {
            return Err(reason);
        }
        let ordinal = match table.free.pop() {
            Some(Reverse(ordinal)) => ordinal,
            None => {
                table.slots.push(None);
                table.slots.len() - 1
            }
        };
        table.slots[ordinal] = Some(Arc::clone(&slot));
        drop(table);
        Ok(Subscription {
            service: Arc::clone(service),
            slot,
            ordinal,
            delivered: None,
        })
    }

    fn leave(&self, ordinal: usize) {
        let mut table = self.lock();
        table.slots[ordinal] = None;
        table.free.push(Reverse(ordinal));
        // After a mass disconnect the table shrinks back.
        if table.free.len() == table.slots.len() {
            table.slots = Vec::new();
            table.free = BinaryHeap::new();
        }
    }

    /// How many streams there are.
    pub(super) fn len(&self) -> usize {
        let table = self.lock();
        table.slots.len() - table.free.len()
    }

    /// Wakes every stream, and notes which fall behind at `now`, the time since
    /// the service began.
    pub(super) fn wake_all(&self, now: Duration) {
        let stamp = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1) + 1;
        self.for_each(|slot| {
            let _ =
                slot.behind_since
                    .compare_exchange(0, stamp, Ordering::Relaxed, Ordering::Relaxed);
            slot.waker.wake();
        });
    }

    /// Closes the connections of streams that have not taken a publish for
    /// `limit`, and says how many there were.
    pub(super) fn close_stalled(&self, now: Duration, limit: Duration) -> usize {
        let mut closed = 0;
        self.for_each(|slot| {
            let since = slot.behind_since.load(Ordering::Relaxed);
            let behind = since != 0 && now > limit + Duration::from_millis(since - 1);
            if behind && !slot.connection.is_cancelled() {
                slot.connection.cancel();
                closed += 1;
            }
        });
        closed
    }

    /// Ends every stream, spread evenly over `over` in random order, and lets
    /// no new one in. Returns when the last has been told.
    pub(super) async fn end_all(&self, reason: EndReason, over: Duration) {
        let mut slots: Vec<Arc<Slot>> = {
            let mut table = self.lock();
            table.closed = Some(reason);
            table.slots.iter().flatten().map(Arc::clone).collect()
        };
        fastrand::shuffle(&mut slots);
        let start = Instant::now();
        let count = slots.len() as f64;
        for (index, slot) in slots.into_iter().enumerate() {
            tokio::time::sleep_until(start + over.mul_f64(index as f64 / count)).await;
            let _ = slot.end.set(reason);
            slot.waker.wake();
        }
    }

    fn for_each(&self, mut act: impl FnMut(&Slot)) {
        let mut from = 0;
        loop {
            let chunk: Vec<Arc<Slot>> = {
                let table = self.lock();
                let rest = table.slots.get(from..).unwrap_or_default();
                if rest.is_empty() {
                    return;
                }
                let chunk = &rest[..rest.len().min(WAKE_CHUNK)];
                chunk.iter().flatten().map(Arc::clone).collect()
            };
            chunk.iter().for_each(|slot| act(slot));
            from += WAKE_CHUNK;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
