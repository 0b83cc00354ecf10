//! One live HTTP/2 connection, as RPCs see it.

mod streams;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use self::streams::Further;
pub(crate) use self::streams::{NoStream, StreamPermit, first_stream};
use super::RequestBody;
use super::driver::ROOM_AT_FIRST;
use super::foreign::grpc_or_status;
use super::request::Outgoing;
use super::response::ResponseBody;
use super::upload::Upload;
use crate::endpoint::Address;

/// Sends RPCs over one connection. Clones send over the same one.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    sender: SendRequest<Bytes>,
    /// Shared with the task that runs the connection, which is not to keep it
    /// open.
    shared: Arc<Shared>,
    /// For the bodies of streaming requests: on the connection's runtime, which may be
    /// another than the caller's.
    tasks: TaskTracker,
    runtime: Handle,
    peer: Arc<Address>,
    further: Further,
    /// One per connection of the process.
    id: u64,
}

/// What a connection's senders and its task know of each other.
#[derive(Debug)]
pub(super) struct Shared {
    /// A permit for each RPC that the server allows at a time. Whoever waits for
    /// one has not left. Closed when the connection takes no more RPCs.
    pub(super) room: Arc<Semaphore>,
    /// How many RPCs the server allows at a time.
    pub(super) limit: AtomicUsize,
    /// What the server said when it wanted no more RPCs: its last GOAWAY, or the last
    /// that had a reason.
    pub(super) goodbye: Mutex<Option<String>>,
    /// Whether a GOAWAY said that the server gets too many pings.
    pub(super) too_many_pings: AtomicBool,
    /// Whether an RPC was answered, since somebody last asked for that.
    pub(super) answered: AtomicBool,
    /// Cancelled when an RPC found that the connection takes no more, which h2 tells
    /// nobody else: it may have run out of stream numbers.
    pub(super) refuses: CancellationToken,
    /// Whether there is something to send that the task has not seen.
    pub(super) queued: AtomicBool,
    /// How often something was written. An RPC since whose beginning nothing was
    /// has not left.
    pub(super) writes: AtomicU64,
    /// Whether something was read since it was last asked.
    pub(super) heard: AtomicBool,
}

/// Why an RPC got no response over a connection.
#[derive(Debug)]
pub struct NotSent {
    /// What HTTP/2 says.
    pub error: h2::Error,
    /// Whether some of the RPC may have left, so that the server may have run it.
    pub left: bool,
    /// Whether it is no request that HTTP/2 can carry, by this connection or another.
    pub malformed: bool,
    /// The request, if it did not get as far as the connection.
    pub request: Option<Box<Request<RequestBody>>>,
}

impl Shared {
    /// Room for this many RPCs at a time.
    pub(super) fn new(room: usize) -> Arc<Self> {
        Arc::new(Self {
            room: Arc::new(Semaphore::new(room)),
            limit: AtomicUsize::new(ROOM_AT_FIRST),
            goodbye: Mutex::default(),
            too_many_pings: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            refuses: CancellationToken::new(),
            queued: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            heard: AtomicBool::new(false),
        })
    }
}

impl Connection {
    pub(super) fn new(
        sender: SendRequest<Bytes>,
        shared: Arc<Shared>,
        tasks: &TaskTracker,
        peer: &Address,
    ) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Self(Arc::new(Inner {
            sender,
            shared,
            tasks: tasks.clone(),
            runtime: Handle::current(),
            peer: Arc::new(peer.clone()),
            further: Further::default(),
            id: IDS.fetch_add(1, Ordering::Relaxed),
        }))
    }

    /// Whom it leads to.
    #[must_use]
    pub fn peer(&self) -> &Arc<Address> {
        &self.0.peer
    }

    /// How many RPCs the server allows at a time (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.shared.limit.load(Ordering::Relaxed)
    }

    /// Whether the server answered an RPC on it.
    pub(super) fn has_answered(&self) -> bool {
        self.0.shared.answered.load(Ordering::Relaxed)
    }

    /// Whether it was used since the last call, or is. Then [`Connection::has_answered`]
    /// starts afresh.
    pub(super) fn take_used(&self) -> bool {
        let answered = self.0.shared.answered.swap(false, Ordering::Relaxed);
        answered || self.0.shared.room.available_permits() < self.limit()
    }

    /// What the server said when it wanted no more RPCs on this connection.
    pub(crate) fn goodbye(&self) -> Option<String> {
        let goodbye = self.0.shared.goodbye.lock();
        goodbye.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends one RPC and waits for the response's headers. Dropping the future, or
    /// the response, cancels the RPC.
    ///
    /// # Errors
    /// [`NotSent`] if the connection ended first, or the server reset the RPC.
    pub async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, NotSent> {
        let permit = match self.reserve() {
            Err(NoStream::Full) => first_stream(&[self]).await.map(|(_, permit)| permit).ok(),
            permit => permit.ok(),
        };
        match permit {
            Some(permit) => permit.send(request, |_| {}).await,
            None => Err(self.refuse(request)),
        }
    }

    /// Gives back a request that this connection does not take any more.
    pub(crate) fn refuse(&self, request: Request<RequestBody>) -> NotSent {
        self.0.shared.refuses.cancel();
        let mut sender = self.0.sender.clone();
        // Never pending for a new clone: it says whether the connection is good.
        let good = sender.poll_ready(&mut Context::from_waker(std::task::Waker::noop()));
        NotSent {
            error: match good {
                Poll::Ready(Err(error)) => error,
                // It ended in good order.
                _ => Reason::NO_ERROR.into(),
            },
            left: false,
            malformed: false,
            request: Some(Box::new(request)),
        }
    }

    /// Hands the RPC to the connection: a message that is there in one piece with
    /// its headers.
    fn start(
        &self,
        sender: &mut SendRequest<Bytes>,
        head: Request<()>,
        body: Outgoing,
    ) -> Result<(ResponseFuture, Option<Upload>), h2::Error> {
        // Before the frames, whose queueing wakes the connection's task.
        self.0.shared.queued.store(true, Ordering::Relaxed);
        Ok(match body {
            Outgoing::Empty => (sender.send_request(head, true)?.0, None),
            Outgoing::Whole(message) => {
                let (response, mut stream) = sender.send_request(head, false)?;
                // h2 keeps it until there is window. What fails here the response
                // fails by, too.
                let _ = stream.send_data(message, true);
                (response, None)
            }
            Outgoing::Stream(body) => {
                let (response, stream) = sender.send_request(head, false)?;
                let upload = Upload::start(body, stream, &self.0.tasks, &self.0.runtime);
                (response, Some(upload))
            }
        })
    }
}

impl StreamPermit {
    /// The connection on which it is.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends one RPC by it; `leaves` may change the headers at the moment at which they
    /// go. As [`Connection::send`].
    pub(crate) async fn send(
        self,
        mut request: Request<RequestBody>,
        leaves: impl FnOnce(&mut HeaderMap),
    ) -> Result<Response<ResponseBody>, NotSent> {
        let Self { connection, permit } = self;
        // h2 wants one for itself of every caller.
        let mut sender = connection.0.sender.clone();
        // Never pending for a new clone: it says whether the connection is good.
        let good = poll_fn(|cx| Poll::Ready(sender.poll_ready(cx))).await;
        if let Poll::Ready(Err(_)) = good {
            drop(permit);
            return Err(connection.refuse(request));
        }
        leaves(request.headers_mut());
        let (head, body) = request.into_parts();
        let head = Request::from_parts(head, ());
        // Before it can be written, and so before that is counted.
        let writes = || connection.0.shared.writes.load(Ordering::Acquire);
        let writes_before = writes();
        let started = connection.start(&mut sender, head, body.into());
        drop(sender);
        let (response, upload) = started.map_err(|error| NotSent {
            // What HTTP/2 cannot carry, it cannot carry elsewhere either.
            malformed: !error.is_io() && error.reason().is_none(),
            error,
            left: false,
            request: None,
        })?;
        match response.await {
            Ok(response) => {
                if !connection.0.shared.answered.load(Ordering::Relaxed) {
                    connection.0.shared.answered.store(true, Ordering::Relaxed);
                }
                Ok(response.map(|stream| ResponseBody::new(stream, upload, permit)))
            }
            Err(error) => Err(NotSent {
                error,
                left: writes() != writes_before,
                malformed: false,
                request: None,
            }),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({} #{})", self.0.peer, self.0.id)
    }
}

/// Whether they are the same connection, not only to the same address.
impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Connection {}

/// For tonic's generated clients, which the balancer's stream uses. Requests
/// need a scheme and an authority.
impl Service<Request<Body>> for Connection {
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    /// Always ready: an RPC waits in its own future.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = self.clone();
        Box::pin(async move {
            let sent = connection.send(request.map(RequestBody::from)).await;
            let response = sent.map_err(|not_sent| Status::from_error(not_sent.error.into()))?;
            grpc_or_status(response).await
        })
    }
}
