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
}

impl Keepalive {
    /// `None` if the options want no pings.
    pub(super) fn new(pings: Option<PingPong>, options: &ConnectOptions) -> Option<Self> {
        Some(Self {
            pings: pings?,
            timer: Box::pin(sleep(options.keepalive_interval?)),
            options: options.clone(),
            waiting: false,
        })
    }

    /// Ready once an answer is too late. `heard` says whether anything was read
    /// since it was last asked, `idle` whether no RPC is under way.
    pub(super) fn poll_dead(
        &mut self,
        cx: &mut Context<'_>,
        heard: impl Fn() -> bool,
        idle: bool,
    ) -> Poll<()> {
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
            let silent = !heard();
            let wanted = silent && (!idle || self.options.keepalive_while_idle);
            self.waiting = wanted && self.pings.send_ping(Ping::opaque()).is_ok();
            let next = match self.waiting {
                true => self.options.keepalive_timeout,
                false => interval,
            };
            self.timer.as_mut().reset(Instant::now() + next);
        }
    }
}
