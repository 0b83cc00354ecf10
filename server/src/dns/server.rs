//! The server: two sockets, one address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::cookies::Cookies;
use super::datagrams::Datagrams;
use super::live::Live;
use super::message::{Asker, Transport, respond};
use super::metrics::DnsMetrics;
use super::settings::ZoneSettings;
use super::streams::Streams;
use crate::catalogue::Catalogue;
use crate::config::DnsConfig;
use crate::net::cannot_listen;

/// How often to look for a port that is free for both UDP and TCP.
const PORT_ATTEMPTS: usize = 32;

/// The DNS server, bound and not yet running.
///
/// Where it listens is settled once. What it answers follows the configuration,
/// the services and their backends as they change.
#[derive(Debug)]
pub struct Dns {
    udp: Datagrams,
    tcp: TcpListener,
    cookies: Cookies,
}

/// What both sockets answer from.
#[derive(Debug)]
pub(super) struct Front {
    live: Live,
    cookies: Cookies,
    metrics: DnsMetrics,
}

impl Dns {
    /// Binds UDP and TCP to `config.listen`. Port 0 finds one that is free for
    /// both.
    ///
    /// # Errors
    /// If the address cannot be bound; the error names it. If the system has no
    /// randomness, which cookies are made of.
    pub async fn bind(config: &DnsConfig) -> io::Result<Self> {
        let addr = config.listen;
        let cookies = Cookies::new(now()).map_err(io::Error::from)?;
        let mut attempts = if addr.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            let udp = Datagrams::bind(addr).await;
            let udp = udp.map_err(|error| unbound("UDP", addr, &error))?;
            let found = udp.local_addr()?;
            attempts -= 1;
            match TcpListener::bind(found).await {
                Ok(tcp) => {
                    return Ok(Self { udp, tcp, cookies });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                Err(error) => return Err(unbound("TCP", found, &error)),
            }
        }
    }

    /// The address of both sockets.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Answers until `shutdown`, then closes every connection.
    ///
    /// # Errors
    /// If the kernel does not say where it listens.
    pub async fn run(
        self,
        catalogue: Arc<Catalogue>,
        settings: watch::Receiver<Arc<ZoneSettings>>,
        metrics: DnsMetrics,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        info!(listen = %self.local_addr()?, "answering DNS");
        let front = Arc::new(Front {
            live: Live::new(catalogue, settings),
            cookies: self.cookies,
            metrics,
        });
        let mut streams = Streams::default();
        let both = async {
            tokio::join!(self.udp.serve(&front), streams.serve(&self.tcp, &front));
        };
        shutdown.run_until_cancelled(both).await;
        streams.shutdown().await;
        Ok(())
    }
}

impl Front {
    /// The reply to a message of somebody at `ip`, counted. `may_answer` is asked
    /// if that address may be forged.
    pub(super) fn respond(
        &self,
        message: &[u8],
        transport: Transport,
        ip: IpAddr,
        may_answer: impl FnOnce() -> bool,
    ) -> Option<Vec<u8>> {
        let asker = Asker {
            transport,
            ip,
            cookies: &self.cookies,
            now: now(),
        };
        let answer = |query: &_| self.live.answer(query);
        let reply = respond(message, &asker, may_answer, answer);
        self.metrics.replied(reply.as_ref());
        reply.map(|reply| reply.bytes)
    }

    /// Answers that a network gets in a second; 0 is no limit.
    pub(super) fn rate(&self) -> u32 {
        self.live.rate()
    }

    /// Most TCP connections at a time.
    pub(super) fn tcp_connections(&self) -> usize {
        self.live.tcp_connections()
    }

    pub(super) fn metrics(&self) -> &DnsMetrics {
        &self.metrics
    }
}

fn unbound(transport: &str, addr: SocketAddr, error: &io::Error) -> io::Error {
    cannot_listen(format_args!("{addr} ({transport})"), error)
}

/// Seconds since 1970, in as many bits as cookies have.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as u32)
}
