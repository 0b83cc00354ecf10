//! One subchannel, as the pool has it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::{AbortHandle, Id};
use tokio::time::Instant;

use super::attempts::Attempts;
use crate::backoff::{Backoff, BackoffConfig, jittered};
use crate::endpoint::Address;
use crate::error::ConnectError;
use crate::metrics::Metrics;
use crate::subchannel::{Connection, Driver, Ending, Hold, Subchannel, SubchannelState};

/// Least time between the starts of two attempts to one address, ±20 %, once
/// [`BARREN`] connections to it in a row ended without an answer to an RPC: for a
/// server that accepts and then closes, which no backoff slows down, because the
/// attempt did succeed. A server that restarts, or that ends its connections after so
/// many RPCs, is back at once.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// How many it takes.
const BARREN: u32 = 2;

/// A subchannel, as the pool has it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) address: Address,
    pub(super) hold: Weak<Hold>,
    pub(super) state: SubchannelState,
    /// Why the last attempt failed, until one succeeds.
    pub(super) last_error: Option<Arc<ConnectError>>,
    pub(super) backoff: Backoff,
    /// Connections in a row, up to the last, that ended without an answer to an RPC.
    pub(super) barren: u32,
    /// When the running or last attempt started.
    pub(super) started: Option<Instant>,
    /// When a failed subchannel is idle again, or one that was asked to connect
    /// may queue for it.
    pub(super) wake_at: Option<Instant>,
    /// Since when nobody holds it.
    pub(super) released: Option<Instant>,
    pub(super) job: Option<AbortHandle>,
}

/// What became of a job.
pub(super) enum Outcome {
    /// An attempt has ended.
    Opened(Result<(Connection, Driver), ConnectError>),
    /// A connection has.
    Ended(Ending),
}

impl Slot {
    /// An idle one, to `address`, whose attempts wait as `backoff` says.
    pub(super) fn new(address: Address, backoff: BackoffConfig) -> Self {
        Self {
            address,
            hold: Weak::new(),
            state: SubchannelState::Idle,
            last_error: None,
            backoff: Backoff::with(backoff),
            barren: 0,
            started: None,
            wake_at: None,
            released: None,
            job: None,
        }
    }

    /// Whether it is what `subchannel` holds, and not one of another pool.
    pub(super) fn is_of(&self, subchannel: &Subchannel) -> bool {
        std::ptr::eq(self.hold.as_ptr(), Arc::as_ptr(&subchannel.0))
    }

    /// Whether `id` is its attempt or its connection.
    pub(super) fn is_doing(&self, id: Id) -> bool {
        self.job.as_ref().is_some_and(|job| job.id() == id)
    }

    /// Changes the state.
    pub(super) fn set(&mut self, state: SubchannelState, metrics: &Metrics) {
        gauge(metrics, &self.state).fetch_sub(1, Relaxed);
        gauge(metrics, &state).fetch_add(1, Relaxed);
        self.state = state;
    }

    /// When the next attempt may start, if not now.
    pub(super) fn earliest(&self, rng: &mut fastrand::Rng) -> Option<Instant> {
        let last = self.started.filter(|_| self.barren >= BARREN)?;
        Some(last + jittered(MIN_INTERVAL, Backoff::JITTER, rng))
    }

    /// The connection has ended.
    pub(super) fn note_end(&mut self) {
        self.barren = match &self.state {
            SubchannelState::Ready(connection) if connection.has_answered() => 0,
            _ => self.barren.saturating_add(1),
        };
    }

    /// Ends the attempt or the connection.
    pub(super) fn stop(&mut self, place: usize, attempts: &mut Attempts) {
        if let Some(job) = self.job.take() {
            job.abort();
        }
        if let Some(started) = self.started {
            attempts.ended(place, started);
        }
    }
}

/// Where the subchannels in this state are counted.
pub(super) fn gauge<'a>(metrics: &'a Metrics, state: &SubchannelState) -> &'a AtomicU64 {
    match state {
        SubchannelState::Idle => &metrics.idle,
        SubchannelState::Connecting => &metrics.connecting,
        SubchannelState::Ready(_) => &metrics.ready,
        SubchannelState::TransientFailure(_) => &metrics.transient_failure,
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Opened(_) => f.write_str("Opened"),
            Self::Ended(_) => f.write_str("Ended"),
        }
    }
}

/// The slot of `subchannel`; none if it is of another pool.
pub(super) fn own<'a>(
    slots: &'a mut [Option<Slot>],
    subchannel: &Subchannel,
) -> Option<&'a mut Slot> {
    let slot = slots.get_mut(subchannel.0.place)?.as_mut()?;
    slot.is_of(subchannel).then_some(slot)
}
