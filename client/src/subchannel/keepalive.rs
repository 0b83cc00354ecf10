//! HTTP/2 pings that find a dead peer.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use super::ConnectOptions;
use crate::until::after;

/// The least time between two pings, which all connections of a channel keep. It
/// doubles when a server says that it gets too many (gRFC A8). Clones share it.
#[derive(Clone, Default)]
pub(crate) struct PingInterval(Arc<AtomicU64>);

impl PingInterval {
    /// `wanted`, or longer.
    fn interval(&self, wanted: Duration) -> Duration {
        wanted.max(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }

    /// A server found pings every `interval` too many. Of connections that end
    /// together each says so, and it counts once.
    fn slow_down(&self, interval: Duration) {
        let doubled = interval.saturating_mul(2).as_millis();
        let doubled = u64::try_from(doubled).unwrap_or(u64::MAX);
        self.0.fetch_max(doubled.max(1), Ordering::Relaxed);
    }
}

impl fmt::Debug for PingInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.interval(Duration::ZERO).fmt(f)
    }
}

/// Pings a connection that has been silent for an interval.
#[derive(Debug)]
pub(super) struct Keepalive {
    pings: PingPong,
    options: ConnectOptions,
    interval: Duration,
    /// Until the next ping, or until an answer is too late.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    /// When something was last read.
    heard: Instant,
}

impl Keepalive {
    /// `None` if the options want no pings.
    pub(super) fn new(pings: Option<PingPong>, options: &ConnectOptions) -> Option<Self> {
        let interval = options.pace.interval(options.keepalive_interval?);
        Some(Self {
            pings: pings?,
            timer: Box::pin(sleep(interval)),
            interval,
            options: options.clone(),
            waiting: false,
            heard: Instant::now(),
        })
    }

    /// Something was read.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// The server says that it gets too many pings.
    pub(super) fn too_many(&self) {
        self.options.pace.slow_down(self.interval);
        tracing::warn!(
            interval = ?self.interval,
            "the server gets too many keepalive pings (GOAWAY too_many_pings); the interval \
             doubles"
        );
    }

    /// Ready once an answer is too late. `idle` says whether no RPC is under way.
    pub(super) fn poll_dead(&mut self, cx: &mut Context<'_>, idle: bool) -> Poll<()> {
        let interval = self.interval;
        loop {
            if self.waiting {
                if self.pings.poll_pong(cx).is_pending() {
                    return self.timer.as_mut().poll(cx);
                }
                // An error is the connection's, which says it itself.
                self.waiting = false;
                self.timer.as_mut().reset(from_now(interval));
            }
            ready!(self.timer.as_mut().poll(cx));
            if let Some(silent) = self.heard.checked_add(interval)
                && Instant::now() < silent
            {
                self.timer.as_mut().reset(silent);
                continue;
            }
            let wanted = !idle || self.options.keepalive_while_idle;
            self.waiting = wanted && self.pings.send_ping(Ping::opaque()).is_ok();
            let next = match self.waiting {
                true => self.options.keepalive_timeout,
                false => interval,
            };
            self.timer.as_mut().reset(from_now(next));
        }
    }
}

/// Thirty years, which are never.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

fn from_now(wait: Duration) -> Instant {
    after(wait.min(NEVER)).unwrap_or_else(Instant::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_doubles_once_for_connections_that_end_together() {
        let pace = PingInterval::default();
        let second = Duration::from_secs(1);
        assert_eq!(pace.interval(second), second);
        for _ in 0..10 {
            pace.clone().slow_down(second);
        }
        assert_eq!(pace.interval(second), 2 * second);
        pace.slow_down(pace.interval(second));
        assert_eq!(pace.interval(second), 4 * second);
        pace.slow_down(Duration::MAX);
        assert!(pace.interval(second) > 1_000_000 * second);
    }
}
