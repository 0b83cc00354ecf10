//! How many streams there may be, of all methods of the port.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// Time for a client to take a list that it was sent; then its connection is closed.
    pub list_timeout: Duration,
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
    admitted: Mutex<Admitted>,
}

#[derive(Debug, Default)]
struct Admitted {
    total: Count,
    /// Bounded by `total`: an address without streams has no entry.
    per_peer: HashMap<Network, Count>,
}

/// How many streams.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: usize,
    side: usize,
}

/// Why a stream is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// There are as many streams as there may be.
    Total,
    /// Its address has this many, as many as one may.
    Peer(usize),
}

/// What a stream is admitted by; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    network: Network,
    purpose: Purpose,
}

impl Default for StreamLimits {
    /// 200 000 streams, three quarters of them from one peer; 10 000 for anything but
    /// lists and registration, 1000 of them from one peer; 5 s for an
    /// `initial_request`, 60 s to take a list, 10 s for another request, 60 s between two
    /// of reflection.
    fn default() -> Self {
        Self {
            total: 200_000,
            per_peer: 150_000,
            side_total: 10_000,
            side_per_peer: 1000,
            initial_request_timeout: Duration::from_secs(5),
            list_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

impl Admission {
    pub(super) fn new(limits: StreamLimits) -> Self {
        Self {
            limits,
            admitted: Mutex::default(),
        }
    }

    /// Admits a stream from `network`, if there is room.
    pub(super) fn admit(
        self: &Arc<Self>,
        network: Network,
        purpose: Purpose,
    ) -> Result<Permit, Full> {
        let limits = &self.limits;
        let is_side = purpose == Purpose::Side;
        let mut admitted = self.lock();
        let (total, of_peer) = (admitted.total, admitted.per_peer.get(&network));
        let of_peer = of_peer.copied().unwrap_or_default();
        if total.all >= limits.total || is_side && total.side >= limits.side_total {
            return Err(Full::Total);
        }
        if of_peer.all >= limits.per_peer {
            return Err(Full::Peer(limits.per_peer));
        }
        if is_side && of_peer.side >= limits.side_per_peer {
            return Err(Full::Peer(limits.side_per_peer));
        }
        admitted.total.add(purpose);
        admitted.per_peer.entry(network).or_default().add(purpose);
        drop(admitted);
        Ok(Permit {
            admission: Arc::clone(self),
            network,
            purpose,
        })
    }

    /// How many streams are admitted now.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lock().total.all
    }

    fn lock(&self) -> MutexGuard<'_, Admitted> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn add(&mut self, purpose: Purpose) {
        self.all += 1;
        self.side += usize::from(purpose == Purpose::Side);
    }

    fn remove(&mut self, purpose: Purpose) {
        self.all -= 1;
        self.side -= usize::from(purpose == Purpose::Side);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut admitted = self.admission.lock();
        admitted.total.remove(self.purpose);
        if let Entry::Occupied(mut of_peer) = admitted.per_peer.entry(self.network) {
            of_peer.get_mut().remove(self.purpose);
            if of_peer.get().all == 0 {
                of_peer.remove();
            }
        }
    }
}
