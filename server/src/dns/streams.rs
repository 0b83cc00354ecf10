//! TCP: for replies that a datagram cannot hold.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use super::message::Transport;
use super::server::Front;

/// A connection that completes no query for this long is closed, as is one that
/// does not take its reply. Resolvers that keep connections open reopen them.
const IDLE: Duration = Duration::from_secs(5);

/// Most connections at a time; further ones wait in the kernel.
const CONNECTIONS: usize = 256;

/// Most connections of one address at a time; further ones are closed, so that
/// nobody alone can make all others wait.
pub(super) const CONNECTIONS_PER_PEER: usize = 64;

/// Pause after a failed accept: it would likely fail again at once.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// The open connections.
#[derive(Debug, Default)]
pub(super) struct Streams {
    tasks: JoinSet<()>,
    peers: HashMap<Id, IpAddr>,
}

impl Streams {
    /// Accepts and answers for ever.
    pub(super) async fn serve(&mut self, listener: &TcpListener, front: &Arc<Front>) {
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                accepted = listener.accept(), if self.tasks.len() < CONNECTIONS => {
                    match accepted {
                        Ok((stream, peer)) => self.admit(stream, peer.ip(), front),
                        Err(error) => {
                            warn!(%error, "DNS connection not accepted");
                            sleep(AFTER_ERROR).await;
                        }
                    }
                }
            }
            front.metrics().connections(self.tasks.len());
        }
    }

    /// Closes every connection.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    fn admit(&mut self, stream: TcpStream, peer: IpAddr, front: &Arc<Front>) {
        let open = self.peers.values().filter(|known| **known == peer).count();
        if open >= CONNECTIONS_PER_PEER {
            debug!(%peer, open, "DNS connection closed: the peer has too many");
            return;
        }
        let front = Arc::clone(front);
        let task = self.tasks.spawn(async move {
            if let Err(error) = answer_all(stream, &front).await {
                debug!(%peer, %error, "DNS connection closed");
            }
        });
        self.peers.insert(task.id(), peer);
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                error!(%error, "a DNS connection failed");
                error.id()
            }
        };
        self.peers.remove(&id);
    }
}

/// Answers one query after the other, in their order.
async fn answer_all(mut stream: TcpStream, front: &Front) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = Vec::new();
    loop {
        // A query in drips is as idle as none: the time is for all of it.
        let read = timeout(IDLE, read_message(&mut stream, &mut message));
        if !read.await?? {
            return Ok(());
        }
        let reply = front.respond(&message, Transport::Tcp);
        // What gets no reply is no DNS client's: it need not stay.
        let Some(reply) = reply else {
            return Ok(());
        };
        let len = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let framed = [&len.to_be_bytes()[..], &reply].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
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
