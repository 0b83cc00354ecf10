//! How many streams there may be.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Shared;
use super::refusal::Refusal;

/// Limits on `BalanceLoad` streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLimits {
    /// At one time in total, begun or not. A stream on a connection of its own costs about 20 kB, one
    /// more on the same connection about 3 kB.
    pub total: usize,
    /// At one time from one IP address. Whole sites can stand behind one address.
    pub per_peer: usize,
    /// Time for a client to say what it wants, as far as it could be read.
    pub initial_request_timeout: Duration,
}

/// Counts the streams.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) limits: StreamLimits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    total: usize,
    /// Bounded by `total`: an address without streams has no entry.
    per_peer: HashMap<IpAddr, usize>,
}

/// A stream's seat; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) shared: Arc<Shared>,
    ip: IpAddr,
}

impl Default for StreamLimits {
    /// 200 000 streams, three quarters of them from one peer; 5 s.
    fn default() -> Self {
        Self {
            total: 200_000,
            per_peer: 150_000,
            initial_request_timeout: Duration::from_secs(5),
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
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// A seat for a stream from `ip`, if there is one left.
    pub(super) fn take(shared: &Arc<Shared>, ip: IpAddr) -> Result<Self, Refusal> {
        let Admission { limits, .. } = &shared.admission;
        let mut table = shared.admission.lock();
        if table.total >= limits.total {
            return Err(Refusal::Overloaded);
        }
        let of_peer = table.per_peer.get(&ip).copied().unwrap_or_default();
        if of_peer >= limits.per_peer {
            return Err(Refusal::PeerOverLimit(limits.per_peer));
        }
        table.total += 1;
        table.per_peer.insert(ip, of_peer + 1);
        drop(table);
        Ok(Self {
            shared: Arc::clone(shared),
            ip,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.shared.admission.lock();
        table.total -= 1;
        if let Entry::Occupied(mut of_peer) = table.per_peer.entry(self.ip) {
            *of_peer.get_mut() -= 1;
            if *of_peer.get() == 0 {
                of_peer.remove();
            }
        }
    }
}
