//! The two loops: datagrams and streams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::live::Live;
use super::message::{Transport, respond};
use super::metrics::DnsMetrics;
use super::zone::ZoneSettings;
use crate::config::DnsConfig;
use crate::fleet::Fleet;

/// Bytes of queries that the kernel keeps while we are busy: after an outage
/// every client asks within the same second.
const UDP_BUFFER: usize = 1 << 20;

/// A connection that completes no query for this long is closed, as is one that
/// does not take its reply. Resolvers that keep connections open reopen them.
const TCP_IDLE: Duration = Duration::from_secs(5);

/// Most TCP connections at a time; further ones wait in the kernel. Only
/// replies that were too large for UDP need one.
const TCP_CONNECTIONS: usize = 256;

/// Pause after a failed receive or accept: it would likely fail again at once.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// How often to look for a port that is free for both UDP and TCP.
const PORT_ATTEMPTS: usize = 32;

/// The DNS server, bound and not yet running.
#[derive(Debug)]
pub struct Dns {
    config: DnsConfig,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// What both loops answer from.
#[derive(Debug)]
struct Front {
    live: Live,
    metrics: DnsMetrics,
}

impl Dns {
    /// Binds UDP and TCP to the same address. Port 0 finds one that is free
    /// for both.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(config: &DnsConfig) -> io::Result<Self> {
        let (udp, tcp) = bind_both(config.listen).await?;
        for socket in [SockRef::from(&udp), SockRef::from(&tcp)] {
            // The kernel may allow less; then it drops sooner.
            let _ = socket.set_recv_buffer_size(UDP_BUFFER);
        }
        Ok(Self {
            config: config.clone(),
            udp,
            tcp,
        })
    }

    /// The address of both sockets.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Answers until `shutdown`. `advertise` are the addresses of all balancers.
    ///
    /// # Errors
    /// If the configured target is no DNS name.
    pub async fn run(
        self,
        fleet: Arc<Fleet>,
        advertise: &[SocketAddr],
        metrics: DnsMetrics,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let settings = ZoneSettings::new(&self.config, advertise)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        info!(listen = %self.local_addr()?, "answering DNS");
        let front = Arc::new(Front {
            live: Live::new(fleet, settings, now()),
            metrics,
        });
        let loops = async {
            tokio::join!(
                serve_udp(&self.udp, &front),
                serve_tcp(&self.tcp, Arc::clone(&front))
            )
        };
        // Cancelled between two replies, or with the connections it serves.
        shutdown.run_until_cancelled(loops).await;
        Ok(())
    }
}

impl Front {
    fn respond(&self, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let reply = respond(message, transport, |query| self.live.answer(query));
        self.metrics.replied(reply.as_ref());
        reply.map(|reply| reply.bytes)
    }
}

async fn bind_both(addr: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempts = if addr.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        let udp = UdpSocket::bind(addr).await?;
        attempts -= 1;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

async fn serve_udp(socket: &UdpSocket, front: &Front) {
    // The largest datagram, so that a query is never cut to another one.
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (len, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                debug!(%error, "DNS datagram not received");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        // Port 0 cannot be sent to: the sender is forged.
        if peer.port() == 0 {
            continue;
        }
        let Some(reply) = front.respond(&buffer[..len], Transport::Udp) else {
            continue;
        };
        if let Err(error) = socket.send_to(&reply, peer).await {
            debug!(%peer, %error, "DNS reply not sent");
        }
    }
}

async fn serve_tcp(listener: &TcpListener, front: Arc<Front>) {
    let free = Arc::new(Semaphore::new(TCP_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while let Some(ended) = connections.try_join_next() {
            if let Err(error) = ended {
                warn!(%error, "a DNS connection failed");
            }
        }
        // Never closed, so it never fails.
        let Ok(place) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "DNS connection not accepted");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let front = Arc::clone(&front);
        connections.spawn(async move {
            front.metrics.connections().inc();
            let served = serve_stream(stream, &front).await;
            front.metrics.connections().dec();
            if let Err(error) = served {
                debug!(%peer, %error, "DNS connection closed");
            }
            drop(place);
        });
    }
}

/// Answers one query after the other, in their order.
async fn serve_stream(mut stream: TcpStream, front: &Front) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = Vec::new();
    loop {
        // A query in drips is as idle as none: the time is for all of it.
        let read = timeout(TCP_IDLE, read_message(&mut stream, &mut message));
        if !read.await?? {
            return Ok(());
        }
        let Some(reply) = front.respond(&message, Transport::Tcp) else {
            continue;
        };
        let Ok(len) = u16::try_from(reply.len()) else {
            continue;
        };
        let framed = [&len.to_be_bytes()[..], &reply].concat();
        timeout(TCP_IDLE, stream.write_all(&framed)).await??;
    }
}

/// Reads a message; `false` if the peer is done.
async fn read_message(stream: &mut TcpStream, message: &mut Vec<u8>) -> io::Result<bool> {
    let mut len = [0; 2];
    match stream.read_exact(&mut len).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    message.resize(u16::from_be_bytes(len).into(), 0);
    stream.read_exact(message).await?;
    Ok(true)
}

/// Seconds since 1970, cut to what a serial holds.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as u32)
}
