//! TCP: for replies that a datagram cannot hold, and for clients that have had
//! their share by UDP.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{error, info, warn};

use super::message::Transport;
use super::room::{Held, Verdict, judge};
use super::server::Front;

/// A connection that completes no query for this long is closed, as is one that
/// does not take its reply. Resolvers that keep connections open reopen them.
const IDLE: Duration = Duration::from_secs(5);

/// A connection is closed after this long, however much it asks.
const LIFETIME: Duration = Duration::from_secs(60);

/// Longest query, in bytes: a question, OPT and a signature with the longest of
/// names need half of it.
const MAX_QUERY: u16 = 4096;

/// Pause after a failed accept: it would likely fail again at once.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Why a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Closed {
    /// The client closed it, or it broke.
    Client,
    /// It completed no query, or did not take a reply.
    Idle,
    /// It was there long enough.
    Lifetime,
    /// It made room for another.
    Evicted,
    /// There was no room for it.
    Refused,
    /// What it sent is not a query.
    Unreadable,
}

/// The open connections.
#[derive(Debug)]
pub(super) struct Streams {
    tasks: JoinSet<Closed>,
    open: HashMap<Id, Open>,
    clock: Instant,
    accepts: bool,
}

#[derive(Debug)]
struct Open {
    peer: IpAddr,
    last: Arc<LastQuery>,
    task: AbortHandle,
}

/// When a connection completed its last query, or was accepted.
#[derive(Debug)]
struct LastQuery {
    clock: Instant,
    nanos: AtomicU64,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            tasks: JoinSet::new(),
            open: HashMap::new(),
            clock: Instant::now(),
            accepts: true,
        }
    }
}

impl Streams {
    /// Accepts and answers for ever.
    pub(super) async fn serve(&mut self, listener: &TcpListener, front: &Arc<Front>) {
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended, front),
                // Those that are being closed end at once, but not here.
                accepted = listener.accept(), if self.tasks.len() < 2 * front.tcp_connections() => {
                    match accepted {
                        Ok((stream, peer)) => {
                            if !std::mem::replace(&mut self.accepts, true) {
                                info!("DNS connections are accepted again");
                            }
                            self.admit(stream, peer.ip(), front);
                        }
                        Err(error) => {
                            if std::mem::replace(&mut self.accepts, false) {
                                warn!(%error, "DNS connections cannot be accepted");
                            }
                            sleep(AFTER_ERROR).await;
                        }
                    }
                }
            }
            front.metrics().connections(self.open.len());
        }
    }

    /// Closes every connection.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    fn admit(&mut self, stream: TcpStream, ip: IpAddr, front: &Arc<Front>) {
        let peer = client(ip);
        let now = self.clock.elapsed();
        let held = self.open.iter().map(|(id, open)| Held {
            key: *id,
            peer: open.peer,
            idle: now.saturating_sub(open.last.get()),
        });
        match judge(peer, front.tcp_connections(), held) {
            Verdict::Admit => {}
            Verdict::Evict(id) => {
                if let Some(open) = self.open.remove(&id) {
                    open.task.abort();
                    front.metrics().closed(Closed::Evicted);
                }
            }
            Verdict::Refuse => {
                front.metrics().closed(Closed::Refused);
                return;
            }
        }
        // It only makes replies quicker.
        let _ = stream.set_nodelay(true);
        let last = Arc::new(LastQuery::now(self.clock));
        let task = self.tasks.spawn({
            let (front, last) = (Arc::clone(front), Arc::clone(&last));
            let respond = move |message: &[u8]| front.respond(message, Transport::Tcp, ip, || true);
            async move { answer_all(stream, &last, respond).await }
        });
        self.open.insert(task.id(), Open { peer, last, task });
    }

    fn ended(&mut self, ended: Result<(Id, Closed), JoinError>, front: &Front) {
        let (id, closed) = match ended {
            Ok((id, closed)) => (id, Some(closed)),
            Err(error) if error.is_cancelled() => (error.id(), None),
            Err(error) => {
                error!(%error, "a DNS connection failed");
                (error.id(), None)
            }
        };
        // One that was closed to make room was counted then.
        if self.open.remove(&id).is_some()
            && let Some(closed) = closed
        {
            front.metrics().closed(closed);
        }
    }
}

impl LastQuery {
    fn now(clock: Instant) -> Self {
        let last = Self {
            clock,
            nanos: AtomicU64::new(0),
        };
        last.set();
        last
    }

    fn set(&self) {
        let nanos = u64::try_from(self.clock.elapsed().as_nanos());
        let nanos = nanos.unwrap_or(u64::MAX);
        self.nanos.store(nanos, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

/// Who holds connections: an address, and of IPv6 the network of one machine,
/// which has all of its addresses.
fn client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::from((ip.to_bits() >> 64 << 64).to_be_bytes()),
        ip => ip,
    }
}

/// Answers one query after the other, in their order.
async fn answer_all(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    last: &LastQuery,
    respond: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Closed {
    let end = Instant::now() + LIFETIME;
    let mut message = Vec::new();
    loop {
        // A query in drips is as idle as none: the time is for all of it.
        let idle = Instant::now() + IDLE;
        let read = timeout_at(end.min(idle), read_message(&mut stream, &mut message));
        match read.await {
            Ok(Ok(())) => {}
            Ok(Err(closed)) => return closed,
            Err(_) if Instant::now() >= end => return Closed::Lifetime,
            Err(_) => return Closed::Idle,
        }
        last.set();
        // What gets no reply is no DNS client's: it need not stay.
        let Some(reply) = respond(&message) else {
            return Closed::Unreadable;
        };
        match timeout(IDLE, write_message(&mut stream, &reply)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Closed::Client,
            Err(_) => return Closed::Idle,
        }
        if Instant::now() >= end {
            return Closed::Lifetime;
        }
    }
}

async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    message: &mut Vec<u8>,
) -> Result<(), Closed> {
    let mut len = [0; 2];
    let read = stream.read_exact(&mut len).await;
    read.map_err(|_| Closed::Client)?;
    let len = u16::from_be_bytes(len);
    if len > MAX_QUERY {
        return Err(Closed::Unreadable);
    }
    message.resize(len.into(), 0);
    let read = stream.read_exact(message).await;
    read.map_err(|_| Closed::Client)?;
    Ok(())
}

async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(io::Error::other)?;
    let framed = [&len.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::task::JoinHandle;

    use super::*;

    /// Our end of a connection whose every query has a reply of this length.
    fn serving(stream: tokio::io::DuplexStream, reply: usize) -> JoinHandle<(Closed, Duration)> {
        let began = Instant::now();
        tokio::spawn(async move {
            let last = LastQuery::now(began);
            let closed = answer_all(stream, &last, |_| Some(vec![0; reply])).await;
            (closed, began.elapsed())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_whole_query_is_closed() {
        let (mut stream, ours) = duplex(4096);
        let served = serving(ours, 12);
        // In drips.
        for _ in 0..3 {
            stream.write_all(&[1]).await.unwrap();
            sleep(IDLE / 2).await;
        }
        assert_eq!(served.await.unwrap(), (Closed::Idle, IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_replies_are_not_taken_is_closed() {
        let (mut stream, ours) = duplex(64);
        let served = serving(ours, 1000);
        stream.write_all(&[0, 1, 0]).await.unwrap();
        assert_eq!(served.await.unwrap(), (Closed::Idle, IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_for_ever_is_closed_in_the_end() {
        let (mut stream, ours) = duplex(4096);
        let served = serving(ours, 12);
        while stream.write_all(&[0, 1, 0]).await.is_ok() {
            if stream.read_exact(&mut [0; 14]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(served.await.unwrap(), (Closed::Lifetime, LIFETIME));
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_is_too_long_is_not_waited_for() {
        let (mut stream, ours) = duplex(4096);
        let served = serving(ours, 12);
        let len = (MAX_QUERY + 1).to_be_bytes();
        stream.write_all(&len).await.unwrap();
        assert_eq!(served.await.unwrap(), (Closed::Unreadable, Duration::ZERO));
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_ipv6() {
        for (ip, wanted) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(client(ip).to_string(), wanted);
        }
    }
}
