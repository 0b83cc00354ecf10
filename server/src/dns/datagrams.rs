//! UDP: a datagram is answered before the next one is read, with no task and
//! no queue of ours between them.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::message::Transport;
use super::networks::Networks;
use super::server::Front;

/// Bytes of queries that the kernel keeps while we are busy: after an outage
/// every client asks within the same second.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Pause after a failed receive: it would likely fail again at once.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// A UDP socket whose replies leave from the address that was asked.
///
/// The kernel would choose the source by itself if the socket is bound to a
/// wildcard: on a host of several addresses not always the one that the client
/// knows, and then the client ignores the reply.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Datagrams {
    pub(super) async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(addr).await?;
        // The kernel may allow less; then it drops sooner.
        let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers for ever.
    pub(super) async fn serve(&self, front: &Front) {
        // The largest datagram, so that none is cut to another query; and what
        // the kernel may join to one read.
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let mut networks = Networks::default();
        let began = Instant::now();
        loop {
            let meta = match self.receive(&mut buffer).await {
                Ok(meta) => meta,
                Err(error) => {
                    debug!(%error, "DNS datagram not received");
                    sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            // Port 0 cannot be sent to: the sender is forged.
            if meta.addr.port() == 0 {
                continue;
            }
            for message in buffer[..meta.len].chunks(meta.stride.max(1)) {
                let ip = meta.addr.ip();
                let may_answer = || networks.take(ip, front.rate(), began.elapsed());
                let Some(reply) = front.respond(message, Transport::Udp, ip, may_answer) else {
                    continue;
                };
                if let Err(error) = self.reply(&reply, &meta).await {
                    debug!(peer = %meta.addr, %error, "DNS reply not sent");
                }
            }
        }
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        let mut meta = [RecvMeta::default()];
        let mut buffers = [IoSliceMut::new(buffer)];
        let socket = &self.socket;
        socket
            .async_io(Interest::READABLE, || {
                self.state.recv(socket.into(), &mut buffers, &mut meta)
            })
            .await?;
        Ok(meta[0])
    }

    async fn reply(&self, reply: &[u8], asked: &RecvMeta) -> io::Result<()> {
        let transmit = Transmit {
            destination: asked.addr,
            ecn: None,
            contents: reply,
            segment_size: None,
            src_ip: asked.dst_ip,
        };
        let socket = &self.socket;
        let send = || self.state.try_send(socket.into(), &transmit);
        socket.async_io(Interest::WRITABLE, send).await
    }
}
