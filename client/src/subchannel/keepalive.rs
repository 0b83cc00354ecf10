//! HTTP/2 pings that find a dead peer.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use super::ConnectOptions;

/// Pings a connection that has been silent for an interval.
#[derive(Debug)]
pub(super) struct Keepalive {
    pings: PingPong,
    options: ConnectOptions,
    /// Until the next ping, or until an answer is too late.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    /// When something was last read.
    heard: Instant,
}

impl Keepalive {
    /// `None` if the options want no pings.
    pub(super) fn new(pings: Option<PingPong>, options: &ConnectOptions) -> Option<Self> {
        Some(Self {
            pings: pings?,
            timer: Box::pin(sleep(options.keepalive_interval?)),
            options: options.clone(),
            waiting: false,
            heard: Instant::now(),
        })
    }

    /// Something was read.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Ready once an answer is too late. `idle` says whether no RPC is under way.
    pub(super) fn poll_dead(&mut self, cx: &mut Context<'_>, idle: bool) -> Poll<()> {
        let interval = self.options.keepalive_interval.unwrap_or_default();
        loop {
            if self.waiting {
                if self.pings.poll_pong(cx).is_pending() {
                    return self.timer.as_mut().poll(cx);
                }
                // An error is the connection's, which says it itself.
                self.waiting = false;
                self.timer.as_mut().reset(Instant::now() + interval);
            }
            ready!(self.timer.as_mut().poll(cx));
            let silent = self.heard + interval;
            if Instant::now() < silent {
                self.timer.as_mut().reset(silent);
                continue;
            }
            let wanted = !idle || self.options.keepalive_while_idle;
            self.waiting = wanted && self.pings.send_ping(Ping::opaque()).is_ok();
            let next = match self.waiting {
                true => self.options.keepalive_timeout,
                false => interval,
            };
            self.timer.as_mut().reset(Instant::now() + next);
        }
    }
}
