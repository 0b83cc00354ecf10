//! The task that runs a connection, and the future that tells of its end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::connect::describe;
use super::connection::Shared;
use super::frames::Watched;
use super::keepalive::Keepalive;

/// Why a connection takes no more RPCs.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The server said so (GOAWAY). What it has begun it will finish.
    GoAway(String),
    /// The connection is gone.
    Closed(Option<String>),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoAway(reason) | Self::Closed(Some(reason)) => f.write_str(reason),
            Self::Closed(None) => f.write_str("the server closed the connection"),
        }
    }
}

/// Ends when a connection takes no more RPCs, and says why. From then on, or when
/// it is dropped, the connection gives back what it has not sent; RPCs under way
/// go on if the server does, and the last one closes it.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    /// A GOAWAY's text; none once there can be none any more.
    goodbye: Option<oneshot::Receiver<String>>,
    end: oneshot::Receiver<Option<String>>,
    refuses: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        goodbye: oneshot::Receiver<String>,
        end: oneshot::Receiver<Option<String>>,
    ) -> Self {
        Self {
            refuses: Box::pin(shared.refuses.clone().cancelled_owned()),
            shared,
            goodbye: Some(goodbye),
            end,
        }
    }
}

impl Future for Driver {
    type Output = Ending;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        if let Some(goodbye) = &mut self.goodbye
            && let Poll::Ready(said) = Pin::new(goodbye).poll(cx)
        {
            self.goodbye = None;
            if let Ok(reason) = said {
                self.shared.room.close();
                return Poll::Ready(Ending::GoAway(reason));
            }
        }
        if let Poll::Ready(end) = Pin::new(&mut self.end).poll(cx) {
            // It says nothing only if its runtime ends.
            return Poll::Ready(Ending::Closed(end.unwrap_or_default()));
        }
        ready!(self.refuses.as_mut().poll(cx));
        self.shared.room.close();
        let reason = "the connection takes no more RPCs";
        Poll::Ready(Ending::GoAway(reason.to_owned()))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.room.close();
    }
}

/// Room before the server has said how much there is, as RFC 9113 recommends it
/// for the least.
pub(super) const ROOM_AT_FIRST: usize = 100;

/// Runs a connection until it ends.
pub(super) struct Running {
    connection: client::Connection<Watched, Bytes>,
    shared: Arc<Shared>,
    /// Permits of [`Shared::room`], used or not.
    room: usize,
    keepalive: Option<Keepalive>,
    /// It has let others go first since something was queued.
    waited: bool,
    ended: Option<oneshot::Sender<Option<String>>>,
}

impl Running {
    /// The task, and what tells of its end: why, if not in good order.
    pub(super) fn new(
        connection: client::Connection<Watched, Bytes>,
        shared: Arc<Shared>,
        keepalive: Option<Keepalive>,
    ) -> (Self, oneshot::Receiver<Option<String>>) {
        let (ended, end) = oneshot::channel();
        let running = Self {
            connection,
            shared,
            room: ROOM_AT_FIRST,
            keepalive,
            waited: false,
            ended: Some(ended),
        };
        (running, end)
    }

    /// Follows the server's limit of RPCs at a time.
    fn make_room(&mut self) {
        let allowed = self.connection.max_concurrent_send_streams();
        let allowed = allowed.min(Semaphore::MAX_PERMITS);
        self.shared.limit.store(allowed, Ordering::Relaxed);
        if allowed > self.room {
            self.shared.room.add_permits(allowed - self.room);
            self.room = allowed;
        } else if allowed < self.room {
            // Those in use come back, and are taken away then.
            self.room -= self.shared.room.forget_permits(self.room - allowed);
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        if let Some(keepalive) = &mut self.keepalive {
            let idle = self.shared.room.available_permits() >= self.room;
            if keepalive.poll_dead(cx, idle).is_ready() {
                return Poll::Ready(Some("keep-alive ping timed out".to_owned()));
            }
        }
        let polled = Pin::new(&mut self.connection).poll(cx);
        if let Some(keepalive) = &mut self.keepalive
            && self.shared.heard.swap(false, Ordering::Relaxed)
        {
            keepalive.heard();
        }
        if let Some(keepalive) = &self.keepalive
            && self.shared.too_many_pings.swap(false, Ordering::Relaxed)
        {
            keepalive.too_many();
        }
        polled.map(|end| end.err().map(|error| describe(&error)))
    }
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.queued.load(Ordering::Relaxed) && !self.waited {
            // The RPC that woke this task is seldom alone: whoever got an answer in
            // the same packet is about to send again. Behind them, all that they
            // send is one write.
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        self.shared.queued.store(false, Ordering::Relaxed);
        let polled = self.poll_end(cx);
        match polled {
            Poll::Pending => {
                self.make_room();
                Poll::Pending
            }
            Poll::Ready(end) => {
                if let Some(ended) = self.ended.take() {
                    // Nobody may want to know.
                    let _ = ended.send(end);
                }
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.room.close();
    }
}
