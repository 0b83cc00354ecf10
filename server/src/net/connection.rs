//! One connection, as a task.
//!
//! The future is a struct, not an async block: an async block that moves a
//! connection into itself holds it twice, and at 10 000 connections that is
//! felt.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::coalesce::{Coalescing, Outbox};
use super::connections::ConnectionSlot;
use super::metrics::{Closed, NetMetrics, Refused};
use super::peer::Peer;
use super::transport::Transport;

/// What a client must have sent for its HTTP/2 to have begun: the preface and
/// the head of its SETTINGS.
const HTTP2_BEGUN: u64 = 24 + 9;

/// Serves one connection until it ends.
pub(super) struct Connection<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body,
{
    http: http2::Connection<TokioIo<Coalescing<Transport>>, PeerService<S>, Tasks>,
    outbox: Outbox<Transport>,
    peer: Arc<Peer>,
    place: ConnectionSlot,
    going_away: bool,
    close: Pin<Box<WaitForCancellationFutureOwned>>,
    clock: Clock,
    stall_timeout: Duration,
    metrics: NetMetrics,
}

/// What every connection of a port is made with.
pub(super) struct Setup<S> {
    /// How HTTP/2 is spoken.
    pub(super) http: http2::Builder<Tasks>,
    /// Who answers.
    pub(super) service: Arc<S>,
    /// Time that bytes may wait for a peer that takes none.
    pub(super) stall_timeout: Duration,
    /// What is counted.
    pub(super) metrics: NetMetrics,
}

/// The set of tasks that hyper spawns streams into.
#[derive(Debug, Clone)]
pub(super) struct Tasks(TaskTracker);

/// What a connection is given time for. The timer is boxed, so that a
/// connection that waits for nothing pays for none.
enum Clock {
    /// To begin.
    Handshake(Pin<Box<Sleep>>),
    /// Nothing.
    Off,
    /// To take a byte more than the `sent` it has taken.
    Stall { sent: u64, until: Pin<Box<Sleep>> },
}

/// Tells the service who asks.
pub(super) struct PeerService<S> {
    inner: Arc<S>,
    peer: Arc<Peer>,
}

impl<S> Setup<S> {
    /// The task of a connection whose HTTP/2 must begin by `deadline`.
    pub(super) fn connection<B>(
        &self,
        transport: Transport,
        peer: Arc<Peer>,
        place: ConnectionSlot,
        deadline: Instant,
    ) -> Connection<S, B>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S::Future: Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let service = PeerService {
            inner: Arc::clone(&self.service),
            peer: Arc::clone(&peer),
        };
        let (io, outbox) = Coalescing::new(transport);
        Connection {
            http: self.http.serve_connection(TokioIo::new(io), service),
            outbox,
            peer,
            going_away: false,
            close: Box::pin(place.close().clone().cancelled_owned()),
            place,
            clock: Clock::Handshake(Box::pin(sleep_until(deadline))),
            stall_timeout: self.stall_timeout,
            metrics: self.metrics.clone(),
        }
    }
}

impl<S, B> Future for Connection<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        if me.close.as_mut().poll(cx).is_ready() {
            debug!(peer = %me.peer.addr, "connection closed");
            me.metrics.closed(Closed::Cancelled);
            return Poll::Ready(());
        }
        if !me.going_away && me.place.should_go_away(cx.waker()) {
            me.going_away = true;
            Pin::new(&mut me.http).graceful_shutdown();
        }
        let ended = Pin::new(&mut me.http).poll(cx);
        // Also after the end: the last words of HTTP/2 are still here.
        let flushed = me.outbox.poll_flush(cx);
        if let Poll::Ready(ended) = ended {
            if let Err(error) = ended {
                debug!(peer = %me.peer.addr, %error, "connection ended");
            }
            return Poll::Ready(());
        }
        match flushed {
            Poll::Ready(Err(error)) => {
                debug!(peer = %me.peer.addr, %error, "connection lost");
                Poll::Ready(())
            }
            Poll::Ready(Ok(())) => me.poll_clock(false, cx),
            Poll::Pending => me.poll_clock(true, cx),
        }
    }
}

impl<S, B> Connection<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body,
{
    /// Ready if the peer took longer than it may for what it must do now.
    fn poll_clock(&mut self, owes_bytes: bool, cx: &mut Context<'_>) -> Poll<()> {
        let progress = self.outbox.progress();
        match &mut self.clock {
            Clock::Handshake(until) if progress.read < HTTP2_BEGUN => {
                if until.as_mut().poll(cx).is_ready() {
                    debug!(peer = %self.peer.addr, "HTTP/2 did not begin in time");
                    self.metrics.refused(Refused::HandshakeTimeout);
                    return Poll::Ready(());
                }
                return Poll::Pending;
            }
            Clock::Stall { sent, until } if owes_bytes && *sent == progress.sent => {
                if until.as_mut().poll(cx).is_ready() {
                    debug!(peer = %self.peer.addr, "closed: takes nothing of what is sent");
                    self.metrics.closed(Closed::Stalled);
                    return Poll::Ready(());
                }
                return Poll::Pending;
            }
            _ => {}
        }
        self.clock = Clock::Off;
        if owes_bytes {
            let mut until = Box::pin(sleep(self.stall_timeout));
            // The first poll is what starts a timer.
            if until.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            let sent = progress.sent;
            self.clock = Clock::Stall { sent, until };
        }
        Poll::Pending
    }
}

// Nothing in a connection is pinned in place: futures that need to be are boxed.
impl<S, B> Unpin for Connection<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body,
{
}

impl<S, B> Service<Request<Incoming>> for PeerService<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(Arc::clone(&self.peer));
        self.inner.call(request)
    }
}

impl Tasks {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self(tasks)
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}
