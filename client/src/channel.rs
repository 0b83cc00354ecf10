//! The channel: what a tonic stub is given.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::header::USER_AGENT;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Request, Response};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tracing::Instrument as _;

use crate::builder::Builder;
use crate::call::call;
use crate::control::{Control, Published};
use crate::endpoint::ConnectivityState;
use crate::error::{ConnectError, Error};
use crate::metrics::ChannelMetrics;
use crate::policy::{Pick, PickArgs};
use crate::state_watch::StateWatch;

/// A virtual connection to a service, over which its RPCs are balanced. Any tonic
/// stub takes one:
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use lookaside_proto::helloworld::HelloRequest;
/// use lookaside_proto::helloworld::greeter_client::GreeterClient;
///
/// let channel = lookaside_client::Channel::builder("dns:///greeter.example.com:50051")
///     .connect()
///     .await?;
/// let mut greeter = GreeterClient::new(channel);
/// let reply = greeter.say_hello(HelloRequest { name: "world".into() }).await?;
/// # Ok(()) }
/// ```
///
/// Clones share everything and cost one reference count. When the last one is
/// dropped, the stream to the balancer and idle connections end; RPCs under way
/// finish.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

struct Inner {
    published: Arc<Published>,
    scheme: Scheme,
    authority: Authority,
    user_agent: HeaderValue,
    /// Holds the control task, which ends with the last clone.
    _control: JoinSet<()>,
}

impl Channel {
    /// Starts to build a channel to `target`, in one of the forms of
    /// [`Target`](crate::Target).
    pub fn builder(target: impl Into<String>) -> Builder {
        Builder::new(target.into())
    }

    pub(crate) fn start(
        control: Control,
        published: Arc<Published>,
        scheme: Scheme,
        authority: Authority,
        user_agent: HeaderValue,
    ) -> Self {
        // Whoever makes a channel is not whoever uses it: no parent.
        let span = tracing::info_span!(parent: None, "channel", target = control.recipe.target);
        let mut tasks = JoinSet::new();
        tasks.spawn(control.run(Arc::clone(&published)).instrument(span));
        Self {
            inner: Arc::new(Inner {
                published,
                scheme,
                authority,
                user_agent,
                _control: tasks,
            }),
        }
    }

    /// What the channel is doing now.
    #[must_use]
    pub fn state(&self) -> ConnectivityState {
        self.inner.published.output().state
    }

    /// Follows the channel's state. The watch does not keep the channel alive.
    #[must_use]
    pub fn watch_state(&self) -> StateWatch {
        StateWatch::new(self.inner.published.subscribe())
    }

    /// Waits until RPCs are sent. Wakes an idle channel. A service that never comes
    /// is waited for for ever: bound it with [`tokio::time::timeout`].
    ///
    /// # Errors
    /// [`Error::Connect`] once the channel has been shut down, which happens only if
    /// its runtime ends.
    pub async fn wait_ready(&self) -> Result<(), Error> {
        let mut states = self.watch_state();
        let mut now = Some(states.state());
        while let Some(state) = now {
            match state {
                ConnectivityState::Ready => return Ok(()),
                ConnectivityState::Idle => self.inner.published.wake(),
                _ => {}
            }
            now = states.changed().await;
        }
        let reason = "the channel has been shut down";
        Err(Error::Connect(ConnectError::other(reason)))
    }

    /// What the channel has counted so far.
    #[must_use]
    pub fn metrics(&self) -> ChannelMetrics {
        self.inner.published.read_metrics()
    }

    /// How many of its balancer's lists the channel has followed so far. An RPC
    /// that begins when this has grown is sent by the new list or a newer one.
    #[must_use]
    pub fn lists_followed(&self) -> u64 {
        self.inner.published.lists_followed()
    }

    /// Takes the turn of an RPC without sending one, and has `f` see what the RPC
    /// would have been told: to try out a policy, and to measure one. To metrics,
    /// and to the balancer, this is an RPC that has begun and does not end.
    pub fn with_pick<R>(&self, args: &PickArgs<'_>, f: impl FnOnce(Pick<'_>) -> R) -> R {
        self.inner.published.pick(args, f)
    }

    pub(crate) fn published(&self) -> &Published {
        &self.inner.published
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("authority", &self.inner.authority.as_str())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    /// Always ready: an RPC waits in its own future, where its timeout ends it.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        let headers = request.headers_mut();
        if !headers.contains_key(USER_AGENT) {
            headers.insert(USER_AGENT, inner.user_agent.clone());
        }
        let span = tracing::debug_span!("rpc", method = request.uri().path());
        let rpc = async move {
            *request.uri_mut() = address(request.uri(), &inner.scheme, &inner.authority)?;
            let published = Arc::clone(&inner.published);
            // `inner` stays until the response's headers: a channel whose last
            // clone is gone must not end under an RPC that still waits.
            let response = call(published, request).await;
            drop(inner);
            response
        };
        Box::pin(rpc.instrument(span))
    }
}

/// The request's path, at the service's authority.
fn address(uri: &Uri, scheme: &Scheme, authority: &Authority) -> Result<Uri, Status> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme.clone());
    parts.authority = Some(authority.clone());
    let path = uri.path_and_query().cloned();
    parts.path_and_query = path.or_else(|| Some(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).map_err(|error| Status::internal(format!("request path: {error}")))
}
