//! The task that keeps one subchannel connected.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use lookaside_client::backoff::jittered;
use lookaside_client::endpoint::Address;
use lookaside_client::subchannel::{Connect, Transport};
use lookaside_client::{Channel, ConnectivityState};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::open::{NotOpened, open_on};
use super::{Inner, Ready, State, at_most_5000_a_second};
use crate::wait::{NoAnswer, within};

/// Pause between two attempts: the first, and the longest as long as few fail. A
/// backend that comes back is seen within that.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The first pause where a connection was lost: a process that dies may take
/// another and hang up on it, and refuse the one after that.
const AGAIN: Duration = Duration::from_millis(30);

/// Growth of the pause from one attempt that failed to the next.
const GROWTH: f64 = 1.6;

/// Share of a pause by which it may be longer or shorter.
const JITTER: f64 = 0.2;

/// A backend has this long to take a connection, and as long to speak HTTP/2.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pings a connection on which RPCs are under way when it was silent so long, and
/// takes it for dead when an answer takes the second.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Opens a connection again and again, and tells how that goes.
pub(super) struct Keeper {
    pub(super) target: SocketAddr,
    pub(super) authority: String,
    pub(super) states: watch::Sender<State>,
    pub(super) hurry: Arc<Notify>,
    pub(super) inner: Arc<Inner>,
}

impl Keeper {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut rng = fastrand::Rng::new();
        let mut counted = Counted::new(Arc::clone(&self.inner));
        let held = self.inner.held.load(Ordering::Relaxed);
        // A balancer that starts does not call all backends at once.
        sleep(at_most_5000_a_second(Duration::ZERO, held).mul_f64(rng.f64())).await;
        let mut pause = PAUSE.0;
        let mut number = 0;
        loop {
            let began = Instant::now();
            match self.connect().await {
                Ok(channel) => {
                    number += 1;
                    counted.is_failing(false);
                    let open = self.inner.metrics.opened();
                    let connected = Instant::now();
                    self.keep(channel, number).await;
                    drop(open);
                    debug!(backend = %self.target, "the connection to it ended");
                    self.states.send_replace(State::Idle);
                    // Unless it takes connections only to end them.
                    if connected.elapsed() >= PAUSE.0 {
                        pause = AGAIN;
                        continue;
                    }
                }
                Err(reason) => {
                    self.inner.metrics.not_opened(&reason);
                    counted.is_failing(true);
                    self.states.send_if_modified(|state| {
                        let known = matches!(state, State::Failed(known) if *known == reason);
                        if !known {
                            debug!(backend = %self.target, %reason, "no connection to it");
                            *state = State::Failed(reason);
                        }
                        !known
                    });
                }
            }
            // From the beginning of the attempt: one that lasted is followed by
            // another at once.
            let failing = self.inner.failing.load(Ordering::Relaxed);
            let rest = at_most_5000_a_second(pause, failing);
            let next = began + jittered(rest, JITTER, &mut rng);
            tokio::select! {
                () = sleep_until(next) => {}
                // Never sooner than the first pause, whoever asks.
                () = self.hurried(began) => pause = PAUSE.0,
            }
            let longest = self.inner.longest_pause();
            pause = pause.mul_f64(GROWTH).min(longest);
        }
    }

    async fn hurried(&self, began: Instant) {
        sleep_until(began + PAUSE.0).await;
        self.hurry.notified().await;
    }

    /// A connection, and HTTP/2 on it.
    async fn connect(&self) -> Result<Channel, NotOpened> {
        let seat = self.inner.seats.take().await;
        self.states.send_if_modified(|state| {
            let begins = matches!(state, State::Idle);
            if begins {
                *state = State::Connecting;
            }
            begins
        });
        let socket = open_on(seat, self.target, PATIENCE).await?;
        let channel = Channel::builder(format!("static:{}", self.target))
            .authority(self.authority.clone())
            .user_agent(concat!("lookaside/", env!("CARGO_PKG_VERSION")))
            .connector(Opened::new(socket))
            // Longer than it is waited for here.
            .connect_timeout(PATIENCE * 4)
            .keepalive(KEEPALIVE.0, KEEPALIVE.1)
            .idle_timeout(None)
            .connect();
        match within(PATIENCE, channel).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(NotOpened::Failed(error.to_string().into())),
            Err(NoAnswer::Timeout) => {
                let reason = format!("it speaks no HTTP/2 within {PATIENCE:?}");
                Err(NotOpened::Failed(reason.into()))
            }
            Err(NoAnswer::Late) => Err(NotOpened::Late),
        }
    }

    /// Returns when the connection has ended, or takes no more RPCs.
    async fn keep(&self, channel: Channel, number: u64) {
        let mut states = channel.watch_state();
        if states.state() != ConnectivityState::Ready {
            return;
        }
        debug!(backend = %self.target, number, "connected");
        let ready = Ready {
            channel: channel.clone(),
            number,
        };
        self.states.send_replace(State::Ready(ready));
        // A GOAWAY leaves this state, too. RPCs under way on the connection go on.
        while states.state() == ConnectivityState::Ready {
            if states.changed().await.is_none() {
                return;
            }
        }
    }
}

/// A socket that is open already, for one connection and no other.
#[derive(Debug)]
struct Opened(Mutex<Option<TcpStream>>);

impl Opened {
    fn new(socket: TcpStream) -> Self {
        // What fails here the first write fails by, too.
        let _ = socket.set_nodelay(true);
        Self(Mutex::new(Some(socket)))
    }
}

impl Connect for Opened {
    fn connect(&self, _: &Address) -> BoxFuture<'static, io::Result<Box<dyn Transport>>> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            match socket {
                Some(socket) => Ok(Box::new(socket) as Box<dyn Transport>),
                // The subchannel opens the next one itself, and drops this channel.
                None => pending().await,
            }
        })
    }
}

/// Counts a subchannel, and whether it fails, until it is dropped.
struct Counted {
    inner: Arc<Inner>,
    failing: bool,
}

impl Counted {
    fn new(inner: Arc<Inner>) -> Self {
        inner.held.fetch_add(1, Ordering::Relaxed);
        Self {
            inner,
            failing: false,
        }
    }

    fn is_failing(&mut self, failing: bool) {
        if failing && !self.failing {
            self.inner.failing.fetch_add(1, Ordering::Relaxed);
        } else if !failing && self.failing {
            self.inner.failing.fetch_sub(1, Ordering::Relaxed);
        }
        self.failing = failing;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.is_failing(false);
        self.inner.held.fetch_sub(1, Ordering::Relaxed);
    }
}
