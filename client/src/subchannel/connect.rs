//! From an address to a live HTTP/2 connection.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use tokio_util::task::TaskTracker;

use super::Connection;
use super::connection::Shared;
use super::driver::{Driver, Ending, ROOM_AT_FIRST, Running};
use super::frames::{Frames, Watched};
use super::keepalive::{Keepalive, PingInterval};
use super::transport::{Connect, System, Transport};
use crate::backoff::BackoffConfig;
use crate::endpoint::Address;
#[cfg(feature = "tls")]
use crate::error::Error;
use crate::error::{ConnectError, ConnectErrorKind};
#[cfg(feature = "tls")]
use crate::tls::{ClientTls, Protocol, Tls};

/// What a server may send of one response before it is read, in bytes: enough for a
/// fast network and not much of it.
const STREAM_WINDOW: u32 = 2 << 20;
/// HTTP/2's own windows: a server may have sent so much before it sees ours.
const LEAST_WINDOW: u32 = (1 << 16) - 1;
/// The largest window that HTTP/2 has, in bytes. Of a connection it never is used
/// up, so that responses that are not read do not hold up the others.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// Longest headers of a response, in bytes; more is an error of that RPC.
const HEADER_LIST: u32 = 16 << 10;
/// What it takes for gRPC's own headers.
const LEAST_HEADER_LIST: u32 = 1 << 10;

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
    /// How much of one response may wait to be read, in bytes.
    pub stream_window: u32,
    /// How much of all responses of a connection may wait to be read, in bytes. If it
    /// is less than the streams' windows together, responses that are not read can
    /// stop the others.
    pub connection_window: u32,
    /// Longest headers of a response, in bytes.
    pub max_header_list_size: u32,
    /// Most connections to one address. More than one only while the server allows too
    /// few RPCs at a time on each; less than one counts as one.
    pub max_connections: u32,
    /// How long to wait between attempts that fail.
    pub backoff: BackoffConfig,
    /// Opens what HTTP/2 runs on.
    pub connector: Arc<dyn Connect>,
    /// How often servers want to be pinged at most.
    pub(crate) pace: PingInterval,
    /// TLS, if connections are to have it.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
}

impl ConnectOptions {
    /// The same over `tls`, if there is to be some, to a server called `server`.
    #[cfg(feature = "tls")]
    pub(crate) fn over(self, tls: Option<ClientTls>, server: &str) -> Result<Self, Error> {
        let tls = tls.map(|tls| tls.prepare(server, Protocol::Http2));
        let tls = tls
            .transpose()
            .map_err(|error| Error::Tls(error.to_string()))?;
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
        if self.connector.is_secure() {
            return Scheme::HTTPS;
        }
        Scheme::HTTP
    }

    /// Opens a byte stream to `address`, with TLS if there is to be some.
    async fn open(&self, address: &Address) -> Result<Box<dyn Transport>, ConnectError> {
        let socket = self.connector.connect(address).await?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let secured = tls.handshake(socket).await.map_err(|error| {
                ConnectError::new(ConnectErrorKind::Tls, error.to_string()).by(error)
            });
            return Ok(Box::new(secured?));
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
            stream_window: STREAM_WINDOW,
            connection_window: LARGEST_WINDOW,
            max_header_list_size: HEADER_LIST,
            max_connections: 1,
            backoff: BackoffConfig::default(),
            connector: Arc::new(System::default()),
            pace: PingInterval::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// Opens a connection. It counts as open once the server's SETTINGS are here: a
/// proxy that accepts for a dead server does not make a backend ready.
///
/// What runs it lands in `tasks`, and ends with the connection and its RPCs.
pub(crate) async fn connect(
    address: &Address,
    options: &ConnectOptions,
    tasks: &TaskTracker,
) -> Result<(Connection, Driver), ConnectError> {
    let attempt = async {
        let socket = options.open(address).await?;
        let opened = handshake(address, socket, options, tasks).await;
        opened.map_err(ConnectError::other)
    };
    match tokio::time::timeout(options.timeout, attempt).await {
        Ok(result) => result.map_err(|error| {
            let text = format!("{address}: {error}");
            error.told(text)
        }),
        Err(_) => {
            let timeout = options.timeout;
            let text = format!("{address}: no HTTP/2 connection within {timeout:?}");
            Err(ConnectError::new(ConnectErrorKind::Timeout, text))
        }
    }
}

fn window(bytes: u32) -> u32 {
    bytes.clamp(LEAST_WINDOW, LARGEST_WINDOW)
}

async fn handshake(
    address: &Address,
    socket: Box<dyn Transport>,
    options: &ConnectOptions,
    tasks: &TaskTracker,
) -> Result<(Connection, Driver), String> {
    let (frames, opening, goodbye) = Frames::new();
    let shared = Shared::new(ROOM_AT_FIRST);
    let io = Watched {
        socket,
        frames,
        shared: Arc::clone(&shared),
    };
    let handshake = h2::client::Builder::new()
        .enable_push(false)
        .initial_max_send_streams(ROOM_AT_FIRST)
        .initial_window_size(window(options.stream_window))
        .initial_connection_window_size(window(options.connection_window))
        .max_header_list_size(options.max_header_list_size.max(LEAST_HEADER_LIST))
        .handshake(io);
    let (sender, mut connection) = handshake.await.map_err(|error| describe(&error))?;
    let keepalive = Keepalive::new(connection.ping_pong(), options);
    let (running, end) = Running::new(connection, Arc::clone(&shared), keepalive);
    tasks.spawn(running);
    let mut driver = Driver::new(Arc::clone(&shared), goodbye, end);
    let connection = Connection::new(sender, shared, tasks, address);
    tokio::select! {
        biased;
        Ok(opening) = opening => opening.map(|()| (connection, driver)),
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

/// An error and its causes, which many name only in their source.
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
