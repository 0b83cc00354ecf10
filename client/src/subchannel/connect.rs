//! From an address to a live HTTP/2 connection.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::frames::{Frames, Watched};
use super::transport::{Connect, System, Transport};
use super::{Connection, RequestBody};
use crate::endpoint::Address;
#[cfg(feature = "tls")]
use crate::tls::{ClientTls, Tls};

/// How connections are opened and kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Longest an attempt may take, from TCP's first packet to HTTP/2's
    /// SETTINGS. gRPC's minimum is 20 s.
    pub timeout: Duration,
    /// Time between two HTTP/2 pings on a connection; none are sent if `None`.
    pub keepalive_interval: Option<Duration>,
    /// How long a ping may stay unanswered before the connection counts as dead.
    pub keepalive_timeout: Duration,
    /// Whether to ping while no RPC is under way.
    pub keepalive_while_idle: bool,
    /// Opens what HTTP/2 runs on.
    pub connector: Arc<dyn Connect>,
    /// TLS, if connections are to have it.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
}

impl ConnectOptions {
    /// The same over `tls`, if there is to be some, to a server called `server`.
    #[cfg(feature = "tls")]
    pub(crate) fn over(self, tls: Option<ClientTls>, server: &str) -> Result<Self, String> {
        let tls = tls.map(|tls| tls.prepare(server)).transpose()?;
        Ok(Self { tls, ..self })
    }

    /// The same, to a server called `server`.
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, reason = "only TLS asks who it is")
    )]
    pub(crate) fn to(&self, server: &str) -> Self {
        Self {
            #[cfg(feature = "tls")]
            tls: self.tls.as_ref().map(|tls| tls.to(server)),
            ..self.clone()
        }
    }

    /// `:scheme` of the RPCs.
    pub(crate) fn scheme(&self) -> Scheme {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return Scheme::HTTPS;
        }
        Scheme::HTTP
    }

    /// Opens a byte stream to `address`, with TLS if there is to be some.
    async fn open(&self, address: &Address) -> Result<Box<dyn Transport>, String> {
        let opened = self.connector.connect(address).await;
        let socket = opened.map_err(|error| error.to_string())?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Box::new(tls.handshake(socket).await?));
        }
        Ok(socket)
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(20),
            keepalive_while_idle: false,
            connector: Arc::new(System),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// Runs a connection for as long as it takes new RPCs, and has to be polled for
/// that. RPCs under way when it ends, or is dropped, go on if the server does.
pub(crate) struct Driver {
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    /// A GOAWAY's text; none once there can be none any more.
    goodbye: Option<oneshot::Receiver<String>>,
}

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

impl Future for Driver {
    type Output = Ending;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        if let Some(goodbye) = &mut self.goodbye
            && let Poll::Ready(said) = Pin::new(goodbye).poll(cx)
        {
            self.goodbye = None;
            if let Ok(reason) = said {
                // Takes no more RPCs, and gives back those that it has not sent.
                self.connection = None;
                return Poll::Ready(Ending::GoAway(reason));
            }
        }
        match &mut self.connection {
            Some(connection) => connection
                .as_mut()
                .poll(cx)
                .map(|ended| Ending::Closed(ended.err().map(|error| describe(&error)))),
            None => Poll::Pending,
        }
    }
}

/// Opens a connection. It counts as open once the server's SETTINGS are here: a
/// proxy that accepts for a dead server does not make a backend ready.
///
/// The driver must be polled for the connection to live. What hyper spawns
/// besides lands in `tasks`, and ends with the connection and its RPCs.
pub(crate) async fn connect(
    address: &Address,
    options: &ConnectOptions,
    tasks: &TaskTracker,
) -> Result<(Connection, Driver), String> {
    let attempt = async {
        let socket = options.open(address).await?;
        handshake(socket, options, tasks).await
    };
    match tokio::time::timeout(options.timeout, attempt).await {
        Ok(result) => result.map_err(|reason| format!("{address}: {reason}")),
        Err(_) => Err(format!(
            "{address}: no HTTP/2 connection within {:?}",
            options.timeout
        )),
    }
}

async fn handshake(
    socket: Box<dyn Transport>,
    options: &ConnectOptions,
    tasks: &TaskTracker,
) -> Result<(Connection, Driver), String> {
    let (frames, opening, goodbye) = Frames::new();
    let io = TokioIo::new(Watched { socket, frames });
    let mut builder = hyper::client::conn::http2::Builder::new(TrackedExecutor(tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(options.keepalive_while_idle);
    let (sender, driver) = builder
        .handshake::<_, RequestBody>(io)
        .await
        .map_err(|error| describe(&error))?;
    let mut driver = Driver {
        connection: Some(Box::pin(driver)),
        goodbye: Some(goodbye),
    };
    tokio::select! {
        biased;
        Ok(opening) = opening => opening.map(|()| (Connection::new(sender), driver)),
        ended = &mut driver => Err(match ended {
            Ending::Closed(None) if options.scheme() == Scheme::HTTP => {
                "the server closed the connection before it spoke HTTP/2; does it want TLS?"
                    .to_owned()
            }
            Ending::Closed(None) => {
                "the server closed the connection before it spoke HTTP/2".to_owned()
            }
            ended => ended.to_string(),
        }),
    }
}

/// hyper's errors name the cause only in their source.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Spawns hyper's tasks where they are counted.
#[derive(Clone)]
struct TrackedExecutor(TaskTracker);

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
