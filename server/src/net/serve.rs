//! The life of a port: accept, serve, say goodbye.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::TokioTimer;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::accept::Acceptor;
use super::connection::{Setup, Tasks};
use super::connections::{ConnectionSlot, Connections};
use super::limits::Limits;
use super::listener::Listener;
use super::metrics::{NetMetrics, Refused};
use super::peer::Peer;
use super::revoke;
use super::tls::{Accepted, Failed, Failures, TlsFiles};
use super::transport::Transport;
use crate::wait::if_any;

/// Flow control window of a stream and of a connection, for what clients send:
/// the HTTP/2 default. Requests are small, and what is not read is not sent.
const WINDOW: u32 = 65_535;

/// Bytes of one stream that HTTP/2 holds for the socket; at least one list.
const SEND_BUFFER: usize = 128 * 1024;

/// Bytes of all headers of a request.
const HEADER_LIST: u32 = 16 * 1024;

/// Refused connections are logged once in so long.
const REFUSED_LOG: Duration = Duration::from_secs(10);

/// How to serve.
#[derive(Debug)]
pub struct Options {
    /// TLS, or plaintext if `None`.
    pub tls: Option<Arc<TlsFiles>>,
    /// What the process and a peer may take.
    pub limits: Limits,
    /// When and how to end.
    pub shutdown: Shutdown,
    /// What is counted.
    pub metrics: NetMetrics,
}

/// When and how [`serve`] ends.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Cancelling it begins the end: the listening socket closes, and
    /// connections are sent GOAWAY.
    pub token: CancellationToken,
    /// The GOAWAYs are spread over this time. A connection ends with its last
    /// stream; whoever owns the streams should end them meanwhile.
    pub goaway_over: Duration,
    /// What is still open so long after the beginning of the end is closed.
    pub deadline: Duration,
}

/// Accepts connections and serves them HTTP/2, until `options.shutdown`.
///
/// Each request has an [`Arc<Peer>`](Peer) among its extensions. The service
/// is called without being asked whether it is ready. (A tower service that
/// must be asked goes into `hyper_util::service::TowerToHyperService`, which
/// makes each stream's task larger by a request.)
///
/// Dropping the future closes every connection at once.
///
/// # Errors
/// If accepting ends unexpectedly. Errors of connections are theirs.
pub async fn serve<S, B>(listener: Listener, service: S, options: Options) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Options {
        tls,
        limits,
        shutdown,
        metrics,
    } = options;
    let connections = Connections::new(limits.clone(), metrics.clone());
    let _close_on_drop = CloseAll(Arc::clone(&connections));
    let tasks = TaskTracker::new();
    let port = Arc::new(Port {
        setup: Setup {
            http: http_builder(&limits, Tasks::new(tasks.clone())),
            service: Arc::new(service),
            stall_timeout: limits.stall_timeout,
            metrics: metrics.clone(),
        },
        tls: tls.clone(),
        failures: Failures::default(),
        handshake_timeout: limits.handshake_timeout,
        tasks: tasks.clone(),
        connections: Arc::clone(&connections),
        metrics: metrics.clone(),
    });

    let handle = Handle::current();
    let mut refused_log: Option<Instant> = None;
    let accepted = move |socket: TcpStream, addr: SocketAddr| {
        let _runtime = handle.enter();
        if let Err(reason) = port.accepted(socket, addr, &handle) {
            port.metrics.refused(reason);
            let quiet = refused_log.is_some_and(|last| last.elapsed() < REFUSED_LOG);
            if !quiet {
                refused_log = Some(Instant::now());
                let open = port.connections.len();
                warn!(peer = %addr, ?reason, open, "connection refused; more may follow unlogged");
            }
        }
    };
    let mut acceptor = Acceptor::start(listener.socket, metrics.clone(), accepted)?;
    let watch_tls = if_any(
        tls.as_ref()
            .map(|files| revoke::follow(files, &connections, &metrics)),
    );
    tokio::select! {
        () = shutdown.token.cancelled() => {}
        error = acceptor.ended() => return Err(error),
        () = watch_tls => {}
    }

    let deadline = Instant::now() + shutdown.deadline;
    acceptor.stop().await;
    info!(connections = connections.len(), "closing the port");
    tasks.close();
    let goodbye = async {
        connections.go_away(shutdown.goaway_over).await;
        tasks.wait().await;
    };
    if timeout_at(deadline, goodbye).await.is_err() {
        let closed = connections.close_all();
        warn!(
            closed,
            "closed connections that did not end within {:?}", shutdown.deadline
        );
        tasks.wait().await;
    }
    Ok(())
}

/// What every connection of a port shares.
struct Port<S> {
    setup: Setup<S>,
    tls: Option<Arc<TlsFiles>>,
    failures: Failures,
    handshake_timeout: Duration,
    tasks: TaskTracker,
    connections: Arc<Connections>,
    metrics: NetMetrics,
}

/// Closes what is left when serving is given up.
struct CloseAll(Arc<Connections>);

impl Drop for CloseAll {
    fn drop(&mut self) {
        self.0.close_all();
    }
}

impl<S, B> Port<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Serves a socket that was just accepted. Runs on the accept thread,
    /// inside the runtime's context.
    fn accepted(
        self: &Arc<Self>,
        socket: TcpStream,
        addr: SocketAddr,
        handle: &Handle,
    ) -> Result<(), Refused> {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let place = self.connections.admit(addr.ip())?;
        let deadline = Instant::now() + self.handshake_timeout;
        let socket = socket.set_nonblocking(true).and_then(|()| {
            // Needs the runtime's context: it registers with its reactor.
            tokio::net::TcpStream::from_std(socket)
        });
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                debug!(peer = %addr, %error, "connection was lost as it was accepted");
                return Ok(());
            }
        };
        match &self.tls {
            None => {
                let peer = peer(addr, &place, None);
                let transport = Transport::Plain(socket);
                let serving = self.setup.connection(transport, peer, place, deadline);
                self.tasks.spawn_on(serving, handle);
            }
            Some(files) => {
                let files = Arc::clone(files);
                // A task of its own, so that the memory of a handshake does
                // not stay with the connection.
                let handshake = Arc::clone(self).secure(files, socket, addr, place, deadline);
                self.tasks.spawn_on(handshake, handle);
            }
        }
        Ok(())
    }

    async fn secure(
        self: Arc<Self>,
        files: Arc<TlsFiles>,
        socket: tokio::net::TcpStream,
        addr: SocketAddr,
        place: ConnectionSlot,
        deadline: Instant,
    ) {
        let accepted = tokio::select! {
            accepted = timeout_at(deadline, files.accept(socket)) => accepted,
            () = place.close().cancelled() => return,
        };
        let Accepted {
            stream,
            certificates,
            trust,
        } = match accepted {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(failed)) => {
                self.failures.log(addr, &failed);
                self.metrics.refused(Refused::Tls);
                return;
            }
            Err(_) => {
                let why = format!("it took longer than {:?}", self.handshake_timeout);
                self.failures.log(addr, &Failed::Because(why));
                self.metrics.refused(Refused::HandshakeTimeout);
                return;
            }
        };
        let peer = peer(addr, &place, certificates);
        if peer.certificates.is_some()
            && let Some(shown) = place.has_shown(&peer)
            // Otherwise whoever looks at all connections sees it.
            && files.trust() != trust
            && !revoke::is_good(&files, &shown)
        {
            debug!(peer = %addr, "its certificate is no longer trusted");
            self.metrics.refused(Refused::Tls);
            return;
        }
        let transport = Transport::Tls(Box::new(stream));
        let serving = self.setup.connection(transport, peer, place, deadline);
        self.tasks.spawn(serving);
    }
}

fn peer(
    addr: SocketAddr,
    place: &ConnectionSlot,
    certificates: Option<Vec<rustls::pki_types::CertificateDer<'static>>>,
) -> Arc<Peer> {
    Arc::new(Peer {
        addr,
        connection: place.close().clone(),
        untrusted: CancellationToken::new(),
        certificates,
    })
}

fn http_builder(limits: &Limits, tasks: Tasks) -> http2::Builder<Tasks> {
    let mut http = http2::Builder::new(tasks);
    // Clients then index no header fields, and the entries would pin the
    // connection's first read buffer.
    http.header_table_size(0)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .auto_date_header(false)
        .timer(TokioTimer::new());
    http
}
