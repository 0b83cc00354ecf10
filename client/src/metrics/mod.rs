//! What a channel counts, for dashboards and for the reader of an incident.
//!
//! Counters that every RPC touches are striped over cache lines, one stripe per
//! thread, and one more for all threads beyond the sixteenth: a counter must not
//! make the threads of a busy process wait for each other.

mod call;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

pub use self::call::FinishedCall;
pub(crate) use self::call::Hook;
use crate::endpoint::ConnectivityState;

/// A reading of everything that a channel counts, from
/// [`Channel::metrics`](crate::Channel::metrics). Counts are since the channel's
/// start, and each is exact; two of them may be some RPCs apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelMetrics {
    /// What the channel is doing.
    pub state: ConnectivityState,
    /// Attempts of RPCs that were given a connection. An RPC that is sent again
    /// (transparent retry) has more than one.
    pub picks: u64,
    /// Attempts that have ended.
    pub finished: u64,
    /// RPCs that failed because the balancer said to drop them.
    pub drops: u64,
    /// RPCs that failed because nothing could be reached.
    pub failed_picks: u64,
    /// RPCs whose timeout ended while they waited, for a connection or for their server
    /// to allow one more.
    pub expired: u64,
    /// RPCs that waited because their server allowed no more at a time
    /// (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    pub stream_waits: u64,
    /// Attempts that came back unsent or unseen and were made again elsewhere.
    pub retries: u64,
    /// Connections to backends by state.
    pub subchannels: SubchannelCounts,
    /// Connections to backends that were opened.
    pub connects: u64,
    /// Attempts to open one that failed.
    pub failed_connects: u64,
    /// The balancer's part; all zero without one.
    pub balancer: BalancerMetrics,
}

/// How many subchannels are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SubchannelCounts {
    /// Those without a connection that nobody has asked for one.
    pub idle: u64,
    /// Those that connect, or wait for their turn to.
    pub connecting: u64,
    /// Those with a connection.
    pub ready: u64,
    /// Those whose last attempt failed.
    pub transient_failure: u64,
}

/// What a channel knows of its balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BalancerMetrics {
    /// Whether a stream is open and has been greeted.
    pub connected: bool,
    /// Streams that were opened; all but the first are restarts.
    pub streams: u64,
    /// Attempts to reach a balancer, each over all of its addresses, that failed.
    pub failed_connects: u64,
    /// Lists that came.
    pub lists: u64,
    /// Entries of these lists that made no sense and were skipped, or stripped of
    /// their token.
    pub bad_entries: u64,
    /// Whether the fallback addresses are in use, of which there may be none.
    pub in_fallback: bool,
    /// How often they were taken into use.
    pub fallbacks: u64,
}

/// The counters behind [`ChannelMetrics`].
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) picks: Striped,
    pub(crate) finished: Striped,
    pub(crate) drops: Striped,
    pub(crate) failed_picks: Striped,
    pub(crate) expired: AtomicU64,
    pub(crate) stream_waits: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) idle: AtomicU64,
    pub(crate) connecting: AtomicU64,
    pub(crate) ready: AtomicU64,
    pub(crate) transient_failure: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) failed_connects: AtomicU64,
    pub(crate) balancer_connected: AtomicU64,
    pub(crate) streams: AtomicU64,
    pub(crate) failed_balancer_connects: AtomicU64,
    pub(crate) lists: AtomicU64,
    pub(crate) bad_entries: AtomicU64,
    pub(crate) in_fallback: AtomicU64,
    pub(crate) fallbacks: AtomicU64,
}

impl Metrics {
    pub(crate) fn read(&self, state: ConnectivityState) -> ChannelMetrics {
        ChannelMetrics {
            state,
            picks: self.picks.sum(),
            finished: self.finished.sum(),
            drops: self.drops.sum(),
            failed_picks: self.failed_picks.sum(),
            expired: self.expired.load(Relaxed),
            stream_waits: self.stream_waits.load(Relaxed),
            retries: self.retries.load(Relaxed),
            subchannels: SubchannelCounts {
                idle: self.idle.load(Relaxed),
                connecting: self.connecting.load(Relaxed),
                ready: self.ready.load(Relaxed),
                transient_failure: self.transient_failure.load(Relaxed),
            },
            connects: self.connects.load(Relaxed),
            failed_connects: self.failed_connects.load(Relaxed),
            balancer: BalancerMetrics {
                connected: self.balancer_connected.load(Relaxed) != 0,
                streams: self.streams.load(Relaxed),
                failed_connects: self.failed_balancer_connects.load(Relaxed),
                lists: self.lists.load(Relaxed),
                bad_entries: self.bad_entries.load(Relaxed),
                in_fallback: self.in_fallback.load(Relaxed) != 0,
                fallbacks: self.fallbacks.load(Relaxed),
            },
        }
    }
}

/// A counter that threads can add to without waiting for each other.
#[derive(Debug, Default)]
pub(crate) struct Striped {
    /// Each written to by one thread only.
    own: [Stripe; STRIPES],
    /// For threads that have no stripe.
    shared: Stripe,
}

/// As many as the threads of a usual process.
const STRIPES: usize = 16;

/// Two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Striped {
    pub(crate) fn add_one(&self) {
        match MINE.try_with(|mine| mine.0) {
            Ok(Some(mine)) => {
                // Nobody else writes here: the processor need not lock the line,
                // which would take longer than all the rest of a pick.
                let count = &self.own[mine].0;
                count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
            }
            _ => {
                self.shared.0.fetch_add(1, Relaxed);
            }
        }
    }

    /// Never less than before.
    pub(crate) fn sum(&self) -> u64 {
        let stripes = self.own.iter().chain([&self.shared]);
        stripes.map(|stripe| stripe.0.load(Relaxed)).sum()
    }
}

/// The stripes that no thread has.
static FREE: Mutex<[bool; STRIPES]> = Mutex::new([true; STRIPES]);

thread_local! {
    static MINE: Mine = Mine::take();
}

/// A thread's stripe in every counter, until the thread ends.
struct Mine(Option<usize>);

impl Mine {
    fn take() -> Self {
        // The lock also hands over what the stripe's last thread has written.
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let stripe = free.iter().position(|free| *free);
        if let Some(stripe) = stripe {
            free[stripe] = false;
        }
        Self(stripe)
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        if let Some(stripe) = self.0 {
            FREE.lock().unwrap_or_else(PoisonError::into_inner)[stripe] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_between_threads() {
        let counter = Striped::default();
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..1000).for_each(|_| counter.add_one()));
            }
        });
        assert_eq!(counter.sum(), 40_000);
        // Threads that come later take over stripes, with what they hold.
        for _ in 0..40 {
            std::thread::scope(|scope| {
                scope.spawn(|| counter.add_one());
            });
        }
        assert_eq!(counter.sum(), 40_040);
    }
}
