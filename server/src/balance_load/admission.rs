//! How many streams there may be, of all methods of the port.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Shared;
use super::refusal::Refusal;
use crate::net::Network;

/// Limits on streams: requests that are not answered to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLimits {
    /// At one time in total, begun or not. A stream on a connection of its own costs
    /// about 20 kB, one more on the same connection about 3 kB.
    pub total: usize,
    /// At one time from one IP address, of IPv6 from one network of 64 bits. Whole
    /// sites can stand behind one address.
    pub per_peer: usize,
    /// Of these, such as neither `BalanceLoad` nor registration needs: health,
    /// reflection, and methods that there are not.
    pub side_total: usize,
    /// Of those, from one address.
    pub side_per_peer: usize,
    /// Time for a client to say what it wants, as far as it could be read.
    pub initial_request_timeout: Duration,
    /// Time for the whole request of another method.
    pub request_timeout: Duration,
    /// A stream of reflection on which nothing is asked for so long is ended.
    pub idle_timeout: Duration,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// `BalanceLoad`, or registration: what the balancer is there for.
    Main,
    /// Anything else.
    Side,
}

/// Counts the streams.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) limits: StreamLimits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    total: Held,
    /// Bounded by `total`: an address without streams has no entry.
    per_peer: HashMap<Network, Held>,
}

/// How many somebody has.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    all: usize,
    side: usize,
}

/// A stream's seat; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) shared: Arc<Shared>,
    network: Network,
    purpose: Purpose,
}

impl Default for StreamLimits {
    /// 200 000 streams, three quarters of them from one peer; 10 000 for anything but
    /// lists and registration, 1000 of them from one peer; 5 s for an
    /// `initial_request`, 10 s for another request, 60 s between two of reflection.
    fn default() -> Self {
        Self {
            total: 200_000,
            per_peer: 150_000,
            side_total: 10_000,
            side_per_peer: 1000,
            initial_request_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

impl Admission {
    pub(super) fn new(limits: StreamLimits) -> Self {
        Self {
            limits,
            table: Mutex::default(),
        }
    }

    /// How many seats are taken.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lock().total.all
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn add(&mut self, purpose: Purpose) {
        self.all += 1;
        self.side += usize::from(purpose == Purpose::Side);
    }

    fn remove(&mut self, purpose: Purpose) {
        self.all -= 1;
        self.side -= usize::from(purpose == Purpose::Side);
    }
}

impl Seat {
    /// A seat for a stream from `network`, if there is one left.
    pub(super) fn take(
        shared: &Arc<Shared>,
        network: Network,
        purpose: Purpose,
    ) -> Result<Self, Refusal> {
        let Admission { limits, .. } = &shared.admission;
        let is_side = purpose == Purpose::Side;
        let mut table = shared.admission.lock();
        let (total, of_peer) = (table.total, table.per_peer.get(&network));
        let of_peer = of_peer.copied().unwrap_or_default();
        if total.all >= limits.total || is_side && total.side >= limits.side_total {
            return Err(Refusal::Overloaded);
        }
        if of_peer.all >= limits.per_peer {
            return Err(Refusal::PeerOverLimit(limits.per_peer));
        }
        if is_side && of_peer.side >= limits.side_per_peer {
            return Err(Refusal::PeerOverLimit(limits.side_per_peer));
        }
        table.total.add(purpose);
        table.per_peer.entry(network).or_default().add(purpose);
        drop(table);
        Ok(Self {
            shared: Arc::clone(shared),
            network,
            purpose,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.shared.admission.lock();
        table.total.remove(self.purpose);
        if let Entry::Occupied(mut of_peer) = table.per_peer.entry(self.network) {
            of_peer.get_mut().remove(self.purpose);
            if of_peer.get().all == 0 {
                of_peer.remove();
            }
        }
    }
}
