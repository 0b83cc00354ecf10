//! Which connections there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use rustls::pki_types::UnixTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::metrics::{NetMetrics, Refused};
use super::network::Network;
use super::peer::Peer;

/// The open connections of one [`super::serve`].
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    metrics: NetMetrics,
    table: Mutex<ConnectionTable>,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    next_id: u64,
    links: HashMap<u64, Arc<Link>>,
    /// Bounded by `links`: a network without connections has no entry.
    per_peer: HashMap<Network, usize>,
}

/// A connection's place among the others; dropping it leaves.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    id: u64,
    network: Network,
    link: Arc<Link>,
    connections: Arc<Connections>,
}

/// What others tell a connection.
#[derive(Debug, Default)]
struct Link {
    goaway: AtomicBool,
    waker: AtomicWaker,
    close: CancellationToken,
    /// Who showed what, if anything.
    shown: OnceLock<(Arc<Peer>, UnixTime)>,
}

/// A connection whose client has shown a certificate.
#[derive(Debug)]
pub(super) struct Shown {
    link: Arc<Link>,
    pub(super) peer: Arc<Peer>,
    /// When it did.
    pub(super) at: UnixTime,
}

impl Connections {
    pub(super) fn new(limits: Limits, metrics: NetMetrics) -> Arc<Self> {
        Arc::new(Self {
            limits,
            metrics,
            table: Mutex::default(),
        })
    }

    /// A place for a connection from `ip`, if limits allow one more.
    pub(super) fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<ConnectionSlot, Refused> {
        let mut table = self.lock();
        if table.links.len() >= self.limits.connections {
            return Err(Refused::Total);
        }
        let network = Network::of(ip);
        let of_peer = table.per_peer.get(&network).copied().unwrap_or_default();
        if of_peer >= self.limits.connections_per_peer {
            return Err(Refused::Peer);
        }
        table.per_peer.insert(network, of_peer + 1);
        let id = table.next_id;
        table.next_id += 1;
        let link = Arc::new(Link::default());
        table.links.insert(id, Arc::clone(&link));
        drop(table);
        self.metrics.opened();
        Ok(ConnectionSlot {
            id,
            network,
            link,
            connections: Arc::clone(self),
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().links.len()
    }

    /// Tells every connection to take no new streams and to end after its last
    /// one, spread evenly over `over` in random order.
    pub(super) async fn go_away(&self, over: Duration) {
        let mut links = self.links();
        fastrand::shuffle(&mut links);
        let start = Instant::now();
        let count = links.len() as f64;
        for (index, link) in links.into_iter().enumerate() {
            tokio::time::sleep_until(start + over.mul_f64(index as f64 / count)).await;
            link.go_away();
        }
    }

    /// The connections whose clients have shown certificates.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let links = self.links().into_iter();
        links.filter_map(Shown::of).collect()
    }

    /// Closes every connection now, and says how many there were.
    pub(super) fn close_all(&self) -> usize {
        let links = self.links();
        links.iter().for_each(|link| link.close.cancel());
        links.len()
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.lock().links.values().map(Arc::clone).collect()
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    fn go_away(&self) {
        self.goaway.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Shown {
    fn of(link: Arc<Link>) -> Option<Self> {
        let (peer, at) = link.shown.get()?;
        Some(Self {
            peer: Arc::clone(peer),
            at: *at,
            link,
        })
    }

    /// Tells the connection to take no new streams.
    pub(super) fn go_away(&self) {
        self.link.go_away();
    }
}

impl ConnectionSlot {
    /// Its client has shown a certificate just now.
    pub(super) fn has_shown(&self, peer: &Arc<Peer>) -> Option<Shown> {
        let shown = (Arc::clone(peer), UnixTime::now());
        self.link.shown.set(shown).ok()?;
        Shown::of(Arc::clone(&self.link))
    }

    /// Cancelled when the connection must close.
    pub(super) fn close(&self) -> &CancellationToken {
        &self.link.close
    }

    /// Whether the connection should send GOAWAY; `waker` is woken when it
    /// should.
    pub(super) fn should_go_away(&self, waker: &Waker) -> bool {
        // Registered first, so that the order does not fall in between.
        self.link.waker.register(waker);
        self.link.goaway.load(Ordering::Acquire)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        table.links.remove(&self.id);
        if let Entry::Occupied(mut of_peer) = table.per_peer.entry(self.network) {
            *of_peer.get_mut() -= 1;
            if *of_peer.get() == 0 {
                of_peer.remove();
            }
        }
        if table.links.is_empty() {
            // After a mass disconnect the tables shrink back.
            table.links = HashMap::new();
            table.per_peer = HashMap::new();
        }
        drop(table);
        self.connections.metrics.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_leaves_room_for_others() {
        let limits = Limits {
            connections: 3,
            connections_per_peer: 2,
            ..Limits::for_descriptors(1024)
        };
        let connections = Connections::new(limits, NetMetrics::default());
        let greedy: IpAddr = "10.0.0.1".parse().unwrap();
        let other: IpAddr = "10.0.0.2".parse().unwrap();
        let first = connections.admit(greedy).unwrap();
        let _second = connections.admit(greedy).unwrap();
        assert_eq!(connections.admit(greedy).unwrap_err(), Refused::Peer);
        let _third = connections.admit(other).unwrap();
        assert_eq!(connections.admit(other).unwrap_err(), Refused::Total);
        drop(first);
        assert!(connections.admit(greedy).is_ok());
        assert_eq!(connections.len(), 2);
    }

    #[test]
    fn one_ipv6_network_is_one_peer() {
        let limits = Limits {
            connections_per_peer: 2,
            ..Limits::for_descriptors(1024)
        };
        let connections = Connections::new(limits, NetMetrics::default());
        let admit = |ip: &str| connections.admit(ip.parse().unwrap());
        let _held = [admit("2001:db8::1").unwrap(), admit("2001:db8::2").unwrap()];
        assert_eq!(admit("2001:db8::3").unwrap_err(), Refused::Peer);
        assert!(admit("2001:db8:0:1::3").is_ok());
    }
}
