//! One HTTP/2 connection to each backend, whoever asks over it.
//!
//! ```text
//!  health ──┐
//!  ORCA ────┼─► Subchannel ─► one connection ─► ip:port
//!  reports ─┘   (a hold)      (a task keeps it)
//! ```
//!
//! gRPC's clients watch health and ORCA on the subchannel that carries their RPCs;
//! here it carries nothing else. It is kept for as long as somebody holds it: who
//! asks follows its [`State`] and sends over the channel that is there. A
//! connection that breaks is opened anew at once, and that attempt is the probe:
//! the state says whether the backend took it, refused it or did not answer.
//!
//! The socket is opened here, and lookaside's own client speaks HTTP/2 on it: so
//! that it is known what the system said, and retries keep to a backend's pace (a
//! dead one is looked at about every second) and not to gRPC's for RPCs, which
//! grows to two minutes.

mod credentials;
mod keep;
mod metrics;
mod open;
mod own_fault;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lookaside_client::Channel;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use credentials::{Credential, check_tls};
pub use metrics::SubchannelMetrics;
pub use open::{NotOpened, Permits, is_kept, open};
pub use own_fault::{OwnFault, OwnFaults};

use self::credentials::Credentials;
use crate::certificate::Certificates;
use lookaside_core::model::BackendTls;

/// Where a subchannel leads. Who says the same shares a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Ip and port.
    pub target: SocketAddr,
    /// What the backend is called there, if the operator says; else any name
    /// will do, and the first who asks names it.
    pub authority: Option<String>,
    /// TLS; plaintext if `None`.
    pub tls: Option<Arc<BackendTls>>,
}

/// What a subchannel is doing.
#[derive(Debug, Clone)]
pub enum State {
    /// It is about to open a connection, its first, or another after one that
    /// ended, and its turn has not come: that is our affair and not the backend's.
    Idle,
    /// It opens that connection.
    Connecting,
    /// It has a connection.
    Ready(Ready),
    /// It has none, and tries again and again.
    Failed(NotOpened),
}

/// A connection that RPCs can be sent over.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Takes RPCs. One that comes after the connection has ended waits for
    /// nothing: whoever sends one has an eye on the state.
    pub channel: Channel,
    /// Which of the subchannel's connections it is.
    pub number: u64,
}

/// Every subchannel. Clones are handles to the same ones.
#[derive(Debug, Clone)]
pub struct Subchannels {
    inner: Arc<Inner>,
}

/// A hold on a subchannel. Clones hold the same one; it ends with the last.
#[derive(Debug, Clone)]
pub struct Subchannel {
    hold: Arc<Hold>,
}

#[derive(Debug)]
struct Inner {
    known: Mutex<HashMap<Address, Weak<Hold>>>,
    tasks: TaskTracker,
    credentials: Credentials,
    permits: Permits,
    metrics: SubchannelMetrics,
    /// How many there are, and how many of them have no connection.
    held: AtomicUsize,
    failing: AtomicUsize,
}

#[derive(Debug)]
struct Hold {
    states: watch::Receiver<State>,
    /// Tries again before its time.
    hurry: Arc<Notify>,
    _end: DropGuard,
}

impl Subchannels {
    /// None yet.
    #[must_use]
    pub fn new(metrics: SubchannelMetrics, certificates: Certificates) -> Self {
        let tasks = TaskTracker::new();
        Self {
            inner: Arc::new(Inner {
                known: Mutex::default(),
                credentials: Credentials::new(tasks.clone(), certificates, metrics.clone()),
                tasks,
                permits: Permits::telling(metrics.own_faults.clone()),
                metrics,
                held: AtomicUsize::new(0),
                failing: AtomicUsize::new(0),
            }),
        }
    }

    /// The subchannel to `address`; if there is none, a new one. `name` is what
    /// the backend is called if the address does not say.
    #[must_use]
    pub fn get(&self, address: &Address, name: &str) -> Subchannel {
        let mut known = self.inner.known();
        if let Some(hold) = known.get(address).and_then(Weak::upgrade) {
            return Subchannel { hold };
        }
        let end = CancellationToken::new();
        let (states, receiver) = watch::channel(State::Idle);
        let hurry = Arc::new(Notify::new());
        let keeper = keep::Keeper {
            target: address.target,
            authority: address.authority.as_deref().unwrap_or(name).to_owned(),
            credential: address.tls.as_ref().map(|tls| self.credential(tls)),
            states,
            hurry: Arc::clone(&hurry),
            inner: Arc::clone(&self.inner),
        };
        let hold = Arc::new(Hold {
            states: receiver,
            hurry,
            _end: end.clone().drop_guard(),
        });
        known.insert(address.clone(), Arc::downgrade(&hold));
        drop(known);
        let (inner, address) = (Arc::clone(&self.inner), address.clone());
        self.inner.tasks.spawn(async move {
            end.run_until_cancelled(keeper.run()).await;
            inner.forget(&address);
        });
        Subchannel { hold }
    }

    /// TLS for whoever else opens sockets to backends.
    #[must_use]
    pub fn credential(&self, tls: &Arc<BackendTls>) -> Credential {
        self.inner.credentials.get(tls)
    }

    /// Permits for whoever else opens sockets to backends.
    #[must_use]
    pub fn permits(&self) -> &Permits {
        &self.inner.permits
    }

    /// Waits for `end`, then until all have ended: nobody may hold one for ever.
    pub async fn run(self, end: CancellationToken) {
        end.cancelled().await;
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Subchannel {
    /// Follows its state, beginning with the one now.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<State> {
        self.hold.states.clone()
    }

    /// There is a reason to look now: if it waits to try again, it does not.
    pub fn hurry(&self) {
        self.hold.hurry.notify_one();
    }
}

impl State {
    /// The connection, if there is one.
    #[must_use]
    pub fn ready(&self) -> Option<&Ready> {
        match self {
            Self::Ready(ready) => Some(ready),
            Self::Idle | Self::Connecting | Self::Failed(_) => None,
        }
    }
}

impl Inner {
    /// The longest pause between two attempts: with thousands of dead backends
    /// all of them together are tried 5000 times a second.
    fn longest_pause(&self) -> Duration {
        let failing = self.failing.load(Ordering::Relaxed);
        at_most_5000_a_second(keep::PAUSE.1, failing)
    }

    fn forget(&self, address: &Address) {
        let mut known = self.known();
        if known
            .get(address)
            .is_some_and(|hold| hold.strong_count() == 0)
        {
            known.remove(address);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Address, Weak<Hold>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often to do something that `count` do, each every `interval`, so that
/// together they do it no more than 5000 times a second.
#[must_use]
pub fn at_most_5000_a_second(interval: Duration, count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    interval.max(Duration::from_micros(200).saturating_mul(count))
}
