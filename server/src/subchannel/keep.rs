//! The task that keeps one subchannel connected.

use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::uri::Authority;
use lookaside_client::backoff::jittered;
use lookaside_client::endpoint::Address;
use lookaside_client::subchannel::{Connect, Transport};
use lookaside_client::tls::Protocol;
use lookaside_client::{Channel, ConnectivityState};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::credentials::{Credential, Usable};
use super::open::{NotOpened, open_on};
use super::{Inner, Ready, State, at_most_5000_a_second};
use crate::wait::{NoAnswer, if_any, within};

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

/// When other CAs are trusted, connections are made anew over this time.
const JUDGED_OVER: Duration = Duration::from_secs(2);

/// Opens a connection again and again, and tells how that goes.
pub(super) struct Keeper {
    pub(super) target: SocketAddr,
    pub(super) authority: String,
    pub(super) credential: Option<Credential>,
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
                Ok((channel, usable)) => {
                    number += 1;
                    counted.is_failing(false);
                    let open = self.inner.metrics.opened();
                    let connected = Instant::now();
                    self.keep(channel, number, usable).await;
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

    /// A connection, HTTP/2 on it, and what TLS was done with.
    async fn connect(&self) -> Result<(Channel, Option<Usable>), NotOpened> {
        let usable = match &self.credential {
            Some(credential) => Some(credential.usable().await.map_err(NotOpened::Failed)?),
            None => None,
        };
        let permit = self.inner.permits.take().await;
        self.states.send_if_modified(|state| {
            let begins = matches!(state, State::Idle);
            if begins {
                *state = State::Connecting;
            }
            begins
        });
        let socket = open_on(permit, self.target, PATIENCE).await?;
        // What fails here the first write fails by, too.
        let _ = socket.set_nodelay(true);
        let opened = match &usable {
            None => Opened::new(Box::new(socket), false),
            Some(usable) => {
                // A name in a certificate has no port.
                let name = self.authority.parse::<Authority>();
                let name = name.as_ref().map_or(&*self.authority, Authority::host);
                let shaken = usable.handshake(Protocol::Http2, name, socket);
                let secured = heard(within(PATIENCE, shaken).await, "TLS")?;
                Opened::new(Box::new(secured), true)
            }
        };
        let channel = Channel::builder(format!("static:{}", self.target))
            .authority(self.authority.clone())
            .user_agent(concat!("lookaside/", env!("CARGO_PKG_VERSION")))
            .connector(opened)
            // Longer than it is waited for here.
            .connect_timeout(PATIENCE * 4)
            .keepalive(KEEPALIVE.0, KEEPALIVE.1)
            .idle_timeout(None)
            .connect();
        let channel = async {
            channel.await.map_err(|error| {
                let error = error.to_string();
                if usable.is_none() && error.contains("TLS") {
                    return format!("{error} (where it does, write tls = true for it)");
                }
                error
            })
        };
        let channel = heard(within(PATIENCE, channel).await, "HTTP/2")?;
        Ok((channel, usable))
    }

    /// Returns when the connection has ended, or takes no more RPCs.
    async fn keep(&self, channel: Channel, number: u64, usable: Option<Usable>) {
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
        let ended = async {
            while states.state() == ConnectivityState::Ready {
                if states.changed().await.is_none() {
                    return;
                }
            }
        };
        let judged = if_any(self.credential.as_ref().zip(usable.as_ref()).map(
            async |(credential, usable)| {
                credential.other_trust(usable).await;
                // All of them are judged by it, and not all at once.
                sleep(JUDGED_OVER.mul_f64(fastrand::f64())).await;
            },
        ));
        tokio::select! {
            () = ended => {}
            () = judged => debug!(backend = %self.target, "other CAs are trusted: connecting again"),
        }
    }
}

/// What came of waiting for a backend to speak `protocol`.
fn heard<T>(outcome: Result<Result<T, String>, NoAnswer>, protocol: &str) -> Result<T, NotOpened> {
    match outcome {
        Ok(Ok(heard)) => Ok(heard),
        Ok(Err(error)) => Err(NotOpened::Failed(error.into())),
        Err(NoAnswer::Timeout) => {
            let reason = format!("it speaks no {protocol} within {PATIENCE:?}");
            Err(NotOpened::Failed(reason.into()))
        }
        Err(NoAnswer::Late) => Err(NotOpened::Late),
    }
}

/// A stream that is open already, for one connection and no other.
struct Opened {
    stream: Mutex<Option<Box<dyn Transport>>>,
    secure: bool,
}

impl Opened {
    fn new(stream: Box<dyn Transport>, secure: bool) -> Self {
        Self {
            stream: Mutex::new(Some(stream)),
            secure,
        }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl Connect for Opened {
    fn connect(&self, _: &Address) -> BoxFuture<'static, io::Result<Box<dyn Transport>>> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = stream.take();
        Box::pin(async move {
            match stream {
                Some(stream) => Ok(stream),
                // The subchannel opens the next one itself, and drops this channel.
                None => pending().await,
            }
        })
    }

    fn is_secure(&self) -> bool {
        self.secure
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
