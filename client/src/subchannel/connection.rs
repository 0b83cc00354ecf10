//! One live HTTP/2 connection, as RPCs see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tonic::body::Body;
use tower::Service;

use super::RequestBody;

/// Sends RPCs over one connection. Clones send over the same one.
#[derive(Debug, Clone)]
pub struct Connection {
    sender: SendRequest<RequestBody>,
    /// One per connection of the process.
    id: u64,
}

/// Why an RPC got no response over a connection.
#[derive(Debug)]
pub struct NotSent {
    /// What hyper says.
    pub error: hyper::Error,
    /// The request, if not a byte of it left: it can be sent elsewhere.
    pub request: Option<Box<Request<RequestBody>>>,
}

impl Connection {
    pub(super) fn new(sender: SendRequest<RequestBody>) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Self {
            sender,
            id: IDS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Sends one RPC and waits for the response's headers. Dropping the future
    /// cancels the RPC.
    ///
    /// # Errors
    /// [`NotSent`] if the connection ended first.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, NotSent> {
        // The clone is what hyper wants of callers that share a connection.
        let sent = self.sender.clone().try_send_request(request).await;
        sent.map_err(|mut error| NotSent {
            request: error.take_message().map(Box::new),
            error: error.into_error(),
        })
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Whether they are the same connection, not only to the same address.
impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Connection {}

/// For tonic's generated clients, which the balancer's stream uses. Requests
/// need a scheme and an authority.
impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request.map(RequestBody::from)))
    }
}
