//! From an address to a live HTTP/2 connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::transport::{Connect, System, Transport};
use super::{Connection, RequestBody};
use crate::endpoint::Address;

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
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(20),
            keepalive_while_idle: false,
            connector: Arc::new(System),
        }
    }
}

/// The future that runs a connection, until it ends: `Ok` if in good order.
pub(crate) type Driver = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

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
        let opened = options.connector.connect(address).await;
        let socket = opened.map_err(|error| error.to_string())?;
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
    let (seen, settings) = oneshot::channel();
    let io = TokioIo::new(SettingsWatch {
        socket,
        header: [0; 4],
        read: 0,
        seen: Some(seen),
    });
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
    let mut driver: Driver = Box::pin(driver);
    tokio::select! {
        biased;
        Ok(()) = settings => Ok((Connection::new(sender), driver)),
        ended = &mut driver => Err(match ended {
            Ok(()) => "the server closed the connection before it spoke HTTP/2".to_owned(),
            Err(error) => describe(&error),
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

/// Says when the first frame has begun to arrive, if it is SETTINGS, as it must
/// be. hyper would tell only that a connection ended.
struct SettingsWatch {
    socket: Box<dyn Transport>,
    header: [u8; 4],
    read: usize,
    seen: Option<oneshot::Sender<()>>,
}

impl SettingsWatch {
    /// HTTP/2's frame type, the byte behind three of length.
    const SETTINGS: u8 = 4;

    #[cold]
    fn watch(&mut self, bytes: &[u8]) {
        let missing = self.header.len() - self.read;
        let taken = &bytes[..bytes.len().min(missing)];
        self.header[self.read..self.read + taken.len()].copy_from_slice(taken);
        self.read += taken.len();
        if self.read == self.header.len()
            && let Some(seen) = self.seen.take()
            && self.header[3] == Self::SETTINGS
        {
            // Nobody waits once the attempt has timed out.
            let _ = seen.send(());
        }
    }
}

impl AsyncRead for SettingsWatch {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if self.seen.is_some() {
            self.watch(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SettingsWatch {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
