//! All subchannels of a channel, owned by the channel's one control task: no
//! locks, and every state change is a return of [`Pool::changed`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::connect::{ConnectOptions, connect};
use super::{Connection, Driver, Ending, Subchannel, SubchannelState};
use crate::backoff::{Backoff, jittered};
use crate::endpoint::Address;
use crate::metrics::Metrics;

/// How long a subchannel that nobody holds keeps its connection, as in gRPC: a
/// backend that leaves a list often comes back with the next one.
const RETENTION: Duration = Duration::from_secs(10);
/// Least time between the starts of two attempts to one address, ±20 %. It
/// matters for a server that accepts and then closes, which no backoff slows
/// down: the attempt did succeed.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The subchannels of a channel. Policies hold the ones they use.
#[derive(Debug)]
pub struct Pool {
    options: ConnectOptions,
    slots: HashMap<Address, Slot>,
    /// Attempts and live connections.
    jobs: JoinSet<(Address, Outcome)>,
    /// What runs live connections; it ends with them.
    tasks: TaskTracker,
    rng: fastrand::Rng,
    /// Whether a connection was lost or not to be had since the last
    /// [`Pool::take_losses`].
    losses: bool,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Slot {
    subchannel: Subchannel,
    state: SubchannelState,
    /// Why the last attempt failed, until one succeeds.
    last_error: Option<Arc<str>>,
    backoff: Backoff,
    /// When the running or last attempt started.
    started: Option<Instant>,
    /// When a failed subchannel is idle again.
    retry_at: Option<Instant>,
    /// Since when nobody holds it.
    released: Option<Instant>,
    job: Option<AbortHandle>,
}

enum Outcome {
    Opened(Result<(Connection, Driver), String>),
    Ended(Ending),
}

impl Pool {
    pub(crate) fn new(options: ConnectOptions, rng: fastrand::Rng, metrics: Arc<Metrics>) -> Self {
        Self {
            options,
            metrics,
            slots: HashMap::new(),
            jobs: JoinSet::new(),
            tasks: TaskTracker::new(),
            rng,
            losses: false,
        }
    }

    /// Whether a connection was lost or not to be had since the last call: a
    /// reason to resolve again.
    pub(crate) fn take_losses(&mut self) -> bool {
        std::mem::take(&mut self.losses)
    }

    /// The subchannel to `address`: the one there is, or a new, idle one.
    pub fn acquire(&mut self, address: &Address) -> Subchannel {
        if let Some(slot) = self.slots.get_mut(address) {
            slot.released = None;
            return slot.subchannel.clone();
        }
        let subchannel = Subchannel(Arc::new(address.clone()));
        gauge(&self.metrics, &SubchannelState::Idle).fetch_add(1, Relaxed);
        let slot = Slot {
            subchannel: subchannel.clone(),
            state: SubchannelState::Idle,
            last_error: None,
            backoff: Backoff::default(),
            started: None,
            retry_at: None,
            released: None,
            job: None,
        };
        self.slots.insert(address.clone(), slot);
        subchannel
    }

    /// Starts to connect, if the subchannel is idle.
    pub fn connect(&mut self, subchannel: &Subchannel) {
        let Some(slot) = self.slots.get_mut(subchannel.address()) else {
            return;
        };
        if !matches!(slot.state, SubchannelState::Idle) {
            return;
        }
        let now = Instant::now();
        let earliest = slot.started.map_or(now, |last| {
            last + jittered(MIN_INTERVAL, Backoff::JITTER, &mut self.rng)
        });
        let start = earliest.max(now);
        slot.started = Some(start);
        slot.set(SubchannelState::Connecting, &self.metrics);
        let address = subchannel.address().clone();
        let options = self.options.clone();
        let tasks = self.tasks.clone();
        slot.job = Some(self.jobs.spawn(async move {
            sleep_until(start).await;
            let opened = connect(&address, &options, &tasks).await;
            (address, Outcome::Opened(opened))
        }));
    }

    /// Lets go of a subchannel and, unless somebody else holds it, ends at once
    /// what it does. It keeps its backoff for a while, as any other that is let
    /// go.
    pub fn discard(&mut self, subchannel: Subchannel) {
        let Some(slot) = self.slots.get_mut(subchannel.address()) else {
            return;
        };
        drop(subchannel);
        if Arc::strong_count(&slot.subchannel.0) > 1 {
            return;
        }
        if let Some(job) = slot.job.take() {
            job.abort();
            slot.state = SubchannelState::Idle;
        }
    }

    /// What the subchannel is doing.
    #[must_use]
    pub fn state(&self, subchannel: &Subchannel) -> SubchannelState {
        self.slots
            .get(subchannel.address())
            .map_or(SubchannelState::Idle, |slot| slot.state.clone())
    }

    /// Why the last attempt failed; `None` once one has succeeded. A subchannel
    /// that tries again after a failure has it still.
    #[must_use]
    pub fn last_error(&self, subchannel: &Subchannel) -> Option<Arc<str>> {
        self.slots.get(subchannel.address())?.last_error.clone()
    }

    /// Waits until at least one subchannel has changed its state. May be dropped
    /// at any time.
    pub(crate) async fn changed(&mut self) {
        loop {
            self.sweep();
            let due = self.next_due();
            let timer = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let mut changed = false;
            tokio::select! {
                Some(job) = self.jobs.join_next_with_id() => {
                    changed |= self.finished(job);
                    // All that is there at once: a policy looks at everything
                    // after each change.
                    while let Some(job) = self.jobs.try_join_next_with_id() {
                        changed |= self.finished(job);
                    }
                }
                () = timer => changed |= self.retries_due(),
            }
            if changed {
                return;
            }
        }
    }

    fn finished(&mut self, job: Result<(Id, (Address, Outcome)), JoinError>) -> bool {
        // The job of a subchannel that was let go was cancelled.
        let Ok((id, (address, outcome))) = job else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(&address) else {
            return false;
        };
        // Or it had ended before it could be.
        if slot.job.as_ref().is_none_or(|job| job.id() != id) {
            return false;
        }
        match outcome {
            Outcome::Opened(Ok((connection, driver))) => {
                tracing::debug!(%address, "connected");
                slot.backoff.reset();
                slot.last_error = None;
                slot.set(SubchannelState::Ready(connection), &self.metrics);
                self.metrics.connects.fetch_add(1, Relaxed);
                let job = async move { (address, Outcome::Ended(driver.await)) };
                slot.job = Some(self.jobs.spawn(job));
            }
            Outcome::Opened(Err(reason)) => {
                tracing::debug!(%address, %reason, "no connection");
                self.losses = true;
                let reason: Arc<str> = reason.into();
                let delay = slot.backoff.next_delay(&mut self.rng);
                // As in gRPC the delay counts from the start of the attempt.
                slot.retry_at = slot.started.map(|started| started + delay);
                slot.last_error = Some(Arc::clone(&reason));
                slot.set(SubchannelState::TransientFailure(reason), &self.metrics);
                self.metrics.failed_connects.fetch_add(1, Relaxed);
                slot.job = None;
            }
            Outcome::Ended(reason) => {
                self.losses = true;
                tracing::debug!(%address, %reason, "connection ended");
                slot.set(SubchannelState::Idle, &self.metrics);
                slot.job = None;
            }
        }
        true
    }

    fn retries_due(&mut self) -> bool {
        let now = Instant::now();
        let mut changed = false;
        for slot in self.slots.values_mut() {
            if slot.retry_at.is_some_and(|at| at <= now) {
                slot.retry_at = None;
                slot.set(SubchannelState::Idle, &self.metrics);
                changed = true;
            }
        }
        changed
    }

    /// Notes which subchannels nobody holds, and ends those that nobody has held
    /// for [`RETENTION`].
    fn sweep(&mut self) {
        let now = Instant::now();
        self.slots.retain(|_, slot| {
            if Arc::strong_count(&slot.subchannel.0) > 1 {
                slot.released = None;
                return true;
            }
            let released = *slot.released.get_or_insert(now);
            let keep = now < released + RETENTION;
            if !keep {
                gauge(&self.metrics, &slot.state).fetch_sub(1, Relaxed);
                if let Some(job) = &slot.job {
                    // The connection goes with it; RPCs under way finish.
                    job.abort();
                }
            }
            keep
        });
    }

    fn next_due(&self) -> Option<Instant> {
        let slots = self.slots.values();
        slots
            .flat_map(|slot| [slot.retry_at, slot.released.map(|at| at + RETENTION)])
            .flatten()
            .min()
    }
}

impl Slot {
    fn set(&mut self, state: SubchannelState, metrics: &Metrics) {
        gauge(metrics, &self.state).fetch_sub(1, Relaxed);
        gauge(metrics, &state).fetch_add(1, Relaxed);
        self.state = state;
    }
}

/// Where the subchannels in this state are counted.
fn gauge<'a>(metrics: &'a Metrics, state: &SubchannelState) -> &'a AtomicU64 {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time;

    use super::*;

    fn pool() -> Pool {
        let rng = fastrand::Rng::with_seed(1);
        Pool::new(ConnectOptions::default(), rng, Arc::default())
    }

    async fn listen() -> (TcpListener, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        (listener, address)
    }

    async fn refused() -> Address {
        listen().await.1
    }

    /// Takes a connection and sends the SETTINGS that make it one of HTTP/2.
    async fn accept(listener: &TcpListener) -> TcpStream {
        let (mut socket, _): (_, SocketAddr) = listener.accept().await.unwrap();
        socket
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        socket
    }

    /// Waits until the peer has closed.
    async fn closed(mut socket: TcpStream) {
        let mut buffer = [0; 1024];
        while socket.read(&mut buffer).await.unwrap() > 0 {}
    }

    #[tokio::test]
    async fn ready_once_the_server_speaks_http2_and_idle_when_it_is_gone() {
        let mut pool = pool();
        let (listener, address) = listen().await;
        let subchannel = pool.acquire(&address);
        assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
        pool.connect(&subchannel);
        assert!(matches!(
            pool.state(&subchannel),
            SubchannelState::Connecting
        ));
        let (socket, ()) = tokio::join!(accept(&listener), pool.changed());
        assert!(matches!(pool.state(&subchannel), SubchannelState::Ready(_)));
        assert!(!pool.take_losses());
        drop(socket);
        pool.changed().await;
        assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
        assert!(pool.take_losses());
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_is_not_ready() {
        let mut pool = pool();
        let (listener, address) = listen().await;
        let subchannel = pool.acquire(&address);
        pool.connect(&subchannel);
        let accepted = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        };
        tokio::join!(accepted, pool.changed());
        let SubchannelState::TransientFailure(reason) = pool.state(&subchannel) else {
            panic!("{:?}", pool.state(&subchannel));
        };
        assert!(reason.contains(&address.to_string()), "{reason}");
    }

    #[tokio::test]
    async fn a_failed_subchannel_is_idle_again_after_its_backoff() {
        let mut pool = pool();
        let subchannel = pool.acquire(&refused().await);
        let mut waited = vec![];
        for _ in 0..4 {
            pool.connect(&subchannel);
            let started = Instant::now();
            pool.changed().await;
            let state = pool.state(&subchannel);
            assert!(
                matches!(state, SubchannelState::TransientFailure(_)),
                "{state:?}"
            );
            // No socket is involved until it is idle.
            time::pause();
            pool.changed().await;
            assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
            assert!(pool.last_error(&subchannel).is_some());
            waited.push(started.elapsed().as_secs_f64());
            time::resume();
        }
        for (waited, wanted) in waited.into_iter().zip([1.0, 1.6, 2.56, 4.096]) {
            assert!(waited >= wanted * 0.8, "{waited} for {wanted}");
        }
    }

    #[tokio::test]
    async fn a_released_connection_is_kept_for_ten_seconds() {
        let mut pool = pool();
        let (listener, address) = listen().await;
        let subchannel = pool.acquire(&address);
        pool.connect(&subchannel);
        let (socket, ()) = tokio::join!(accept(&listener), pool.changed());
        drop(subchannel);

        // Taken up again in time, it is the same connection.
        time::pause();
        let changed = time::timeout(Duration::from_secs(9), pool.changed());
        assert!(changed.await.is_err());
        let subchannel = pool.acquire(&address);
        assert!(matches!(pool.state(&subchannel), SubchannelState::Ready(_)));

        // Held, it stays; released for longer, it is closed.
        let changed = time::timeout(Duration::from_secs(60), pool.changed());
        assert!(changed.await.is_err());
        drop(subchannel);
        let changed = time::timeout(Duration::from_secs(11), pool.changed());
        assert!(changed.await.is_err());
        time::resume();
        closed(socket).await;
        let subchannel = pool.acquire(&address);
        assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
    }

    #[tokio::test]
    async fn an_address_has_one_subchannel() {
        let mut pool = pool();
        let address = refused().await;
        assert_eq!(pool.acquire(&address), pool.acquire(&address));
        assert_eq!(pool.slots.len(), 1);
    }

    #[tokio::test]
    async fn dropping_the_pool_closes_its_connections() {
        let mut pool = pool();
        let (listener, address) = listen().await;
        let subchannel = pool.acquire(&address);
        pool.connect(&subchannel);
        let (socket, ()) = tokio::join!(accept(&listener), pool.changed());
        drop(pool);
        closed(socket).await;
    }
}
