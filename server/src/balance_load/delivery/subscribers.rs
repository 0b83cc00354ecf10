//! The streams of a service, and how a publish reaches them.
//!
//! There is no queue: a stream has a waker, and looks at the service's newest
//! lists when it is woken. What it has not read yet is replaced, not piled
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

use super::Delivery;
use super::lists::{Group, GroupLists};
use super::seating::{Client, Seat, Seating};
use crate::catalogue::Service;
use lookaside_core::plan::{Clients, Layout};

/// Streams woken per look at the table: the lock is held for the copying of
/// so many handles, some microseconds.
const WAKE_CHUNK: usize = 256;

/// Why the balancer ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::balance_load) enum EndReason {
    /// The service is no longer configured.
    ServiceRemoved,
    /// The balancer shuts down.
    ShuttingDown,
}

/// News for a stream.
#[derive(Debug)]
pub(in crate::balance_load) enum Update {
    /// Send this, unless something newer comes before it is sent.
    Group(Arc<Group>),
    /// End the stream.
    End(EndReason),
}

/// A stream's place among its service's subscribers; dropping it leaves.
#[derive(Debug)]
pub(in crate::balance_load) struct Subscription {
    delivery: Arc<Delivery>,
    slot: Arc<Slot>,
    ordinal: usize,
    /// Where the stream sits or sat when it was last told anything, and the version
    /// of that; 0 before the first.
    delivered: (Seat, u64),
}

/// What a stream and its service share.
#[derive(Debug)]
struct Slot {
    waker: AtomicWaker,
    end: OnceLock<EndReason>,
    /// Milliseconds after the delivery's start, plus one, at which the stream
    /// fell behind; 0 while it is not behind.
    behind_since: AtomicU64,
    connection: CancellationToken,
    client: Client,
    /// [`Seat::to_bits`]; changes only while the table is locked.
    seat: AtomicU64,
}

/// Every subscriber of one service.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    // A std mutex: it is held for a few instructions, never over an await.
    table: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Option<Arc<Slot>>>,
    free: BinaryHeap<Reverse<usize>>,
    closed: Option<EndReason>,
    seating: Seating,
}

impl Subscription {
    /// Number of the stream among those of its service: dense, the smallest
    /// free one is taken. It picks the stream's list variant.
    pub(in crate::balance_load) fn ordinal(&self) -> u64 {
        self.ordinal as u64
    }

    /// The service it is subscribed to.
    pub(in crate::balance_load) fn service(&self) -> &Arc<Service> {
        self.delivery.service()
    }

    /// The newest thing to send that has not been returned before. The first
    /// call returns the current group at once.
    pub(in crate::balance_load) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Update> {
        // Registered first, so that no publish falls between look and sleep.
        self.slot.waker.register(cx.waker());
        if let Some(reason) = self.slot.end.get() {
            return Poll::Ready(Update::End(*reason));
        }
        let seat = self.slot.seat();
        let Some(group) = self.delivery.group_of(seat) else {
            return Poll::Pending;
        };
        self.slot.behind_since.store(0, Ordering::Relaxed);
        let news = (seat, group.version_for(self.ordinal()));
        if self.delivered == news {
            return Poll::Pending;
        }
        self.delivered = news;
        Poll::Ready(Update::Group(group))
    }
}

impl Slot {
    fn seat(&self) -> Seat {
        Seat::from_bits(self.seat.load(Ordering::Acquire))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let subscribers = &self.delivery.subscribers;
        subscribers.leave(self.ordinal, &self.slot);
    }
}

impl Subscribers {
    /// A place for a stream of this client, whose connection `connection` closes.
    pub(super) fn join(
        &self,
        delivery: &Arc<Delivery>,
        client: Client,
        connection: CancellationToken,
    ) -> Result<Subscription, EndReason> {
        let mut table = self.lock();
        if let Some(reason) = table.closed {
            return Err(reason);
        }
        let seat = table.seating.take(client);
        let slot = Arc::new(Slot {
            waker: AtomicWaker::new(),
            end: OnceLock::new(),
            behind_since: AtomicU64::new(0),
            connection,
            client,
            seat: AtomicU64::new(seat.to_bits()),
        });
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
            delivery: Arc::clone(delivery),
            slot,
            ordinal,
            delivered: (seat, 0),
        })
    }

    fn leave(&self, ordinal: usize, slot: &Slot) {
        let mut table = self.lock();
        table.seating.leave(slot.seat());
        table.slots[ordinal] = None;
        table.free.push(Reverse(ordinal));
        // After a mass disconnect the table shrinks back.
        if table.free.len() == table.slots.len() {
            table.slots = Vec::new();
            table.free = BinaryHeap::new();
        }
    }

    /// How many streams there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let table = self.lock();
        table.slots.len() - table.free.len()
    }

    /// How many streams each group has.
    pub(super) fn clients(&self) -> Clients {
        self.lock().seating.clients()
    }

    /// Gives the streams seats in another layout, if it is another.
    pub(super) fn seat(&self, layout: &Layout, epoch: u32) {
        let mut table = self.lock();
        let Slots { slots, seating, .. } = &mut *table;
        if seating.epoch() == epoch {
            return;
        }
        let slots = slots.iter().flatten();
        let streams: Vec<(Client, Seat)> = slots.clone().map(|s| (s.client, s.seat())).collect();
        let seats = seating.change(layout.clone(), epoch, &streams);
        for (slot, seat) in slots.zip(seats) {
            slot.seat.store(seat.to_bits(), Ordering::Release);
        }
    }

    /// Wakes every stream that `lists`, the newest, have news for, and notes
    /// which fall behind at `now`, the time since the delivery began. Returns how
    /// many sit in groups that changed, but are sent the same as before.
    pub(super) fn wake(&self, lists: &GroupLists, now: Duration) -> usize {
        let stamp = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let mut same = 0;
        self.for_each(|ordinal, slot| {
            if let Some(group) = lists.group(slot.seat())
                && group.version_for(ordinal as u64) < lists.version
            {
                same += usize::from(group.version == lists.version);
                return;
            }
            let _ =
                slot.behind_since
                    .compare_exchange(0, stamp, Ordering::Relaxed, Ordering::Relaxed);
            slot.waker.wake();
        });
        same
    }

    /// Closes the connections of streams that have not taken a publish for
    /// `limit`, and says how many there were.
    pub(super) fn close_stalled(&self, now: Duration, limit: Duration) -> usize {
        let mut closed = 0;
        self.for_each(|_, slot| {
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

    fn for_each(&self, mut act: impl FnMut(usize, &Slot)) {
        let mut from = 0;
        loop {
            let chunk: Vec<Option<Arc<Slot>>> = {
                let table = self.lock();
                let rest = table.slots.get(from..).unwrap_or_default();
                if rest.is_empty() {
                    return;
                }
                rest[..rest.len().min(WAKE_CHUNK)].to_vec()
            };
            for (ordinal, slot) in (from..).zip(&chunk) {
                if let Some(slot) = slot {
                    act(ordinal, slot);
                }
            }
            from += WAKE_CHUNK;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
