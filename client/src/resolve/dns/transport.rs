//! One query to one name server: hickory's, over a connected socket.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider};
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;

use super::system::Conf;

/// The records of the fully qualified `name` that the server at `addr` has. What
/// is lost on the way is sent again within the first second; what is too long for
/// UDP comes over TCP.
///
/// # Errors
/// Also [`NetError::Dns`] of no records.
pub(super) async fn query(
    conf: &Conf,
    addr: SocketAddr,
    name: &Name,
    kind: RecordType,
) -> Result<Lookup, NetError> {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    udp.port = addr.port();
    tcp.port = addr.port();
    let connections = match conf.over_tcp {
        true => vec![tcp],
        false => vec![udp, tcp],
    };
    let server = NameServerConfig::new(addr.ip(), true, connections);
    let config = ResolverConfig::from_parts(None, vec![], vec![server]);
    let mut builder = Resolver::builder_with_config(config, Connected::default());
    let options = builder.options_mut();
    // One try: whom to ask next, and when, is ours to say.
    options.attempts = 0;
    options.timeout = conf.servers.total();
    options.edns0 = conf.edns0;
    // We look because something may have changed.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()?.lookup(name.clone(), kind).await
}

/// hickory's way to tokio, but with sockets that hear that nobody listens there.
#[derive(Clone, Default)]
struct Connected(TokioRuntimeProvider);

struct ConnectedUdp {
    socket: UdpSocket,
    server: SocketAddr,
}

impl RuntimeProvider for Connected {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = ConnectedUdp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        self.0.connect_tcp(server, bind, timeout)
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<ConnectedUdp>>>> {
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(server).await?;
            Ok(ConnectedUdp { socket, server })
        })
    }
}

impl DnsUdpSocket for ConnectedUdp {
    type Time = <TokioRuntimeProvider as RuntimeProvider>::Timer;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buf = ReadBuf::new(buf);
        ready!(self.socket.poll_recv(cx, &mut buf))?;
        Poll::Ready(Ok((buf.filled().len(), self.server)))
    }

    // As async_trait writes it. tokio wakes no reader for an error alone, and that
    // nobody listens there is one.
    fn recv_from<'s, 'b, 'f>(
        &'s self,
        buf: &'b mut [u8],
    ) -> Pin<Box<dyn Future<Output = io::Result<(usize, SocketAddr)>> + Send + 'f>>
    where
        's: 'f,
        'b: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let failed = self.socket.async_io(Interest::ERROR, || {
                let error = self.socket.take_error()?;
                Err::<(), _>(error.unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
            });
            tokio::select! {
                Err(error) = failed => Err(error),
                received = self.socket.recv(buf) => Ok((received?, self.server)),
            }
        })
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        _target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_send(cx, buf)
    }
}
