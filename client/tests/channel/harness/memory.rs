//! A network in memory, for what is about time: with tokio's clock paused the
//! whole channel runs in one thread, ten seconds pass in no time, and a timer
//! fires exactly when it is due.
//!
//! Addresses are real ones, the byte streams between them are not. A test can
//! take an address off the network, make it silent, kill what listens there, or
//! cut the wire.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_util::future::{self, BoxFuture, FutureExt as _};
use lookaside_client::endpoint::Address;
use lookaside_client::subchannel::{Connect, Transport};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::Connected;

/// Bytes under way in one direction, as in a socket's buffer.
const BUFFER: usize = 64 * 1024;

/// The network. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Net(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    sites: HashMap<SocketAddr, Site>,
    dials: Vec<(SocketAddr, Instant)>,
    addresses: u8,
}

/// What is at an address. Nothing refuses.
#[derive(Debug, Default)]
struct Site {
    door: Option<Door>,
    cut: bool,
    links: Vec<Arc<Link>>,
}

#[derive(Debug)]
enum Door {
    Listening(mpsc::UnboundedSender<io::Result<End>>),
    /// Takes connections and never says anything on them.
    Silent(Vec<End>),
}

/// What a server listens on.
pub(crate) type Incoming = UnboundedReceiverStream<io::Result<End>>;

impl Net {
    /// An address that nothing else has. Nobody listens on it yet.
    pub(crate) fn address(&self) -> SocketAddr {
        let mut net = self.0.lock().unwrap();
        net.addresses += 1;
        (Ipv4Addr::new(10, 0, 0, net.addresses), 50051).into()
    }

    /// Listens on `addr`, until the place is killed.
    pub(crate) fn listen(&self, addr: SocketAddr) -> (Incoming, MemoryPlace) {
        let (door, incoming) = mpsc::unbounded_channel();
        let site = Site {
            door: Some(Door::Listening(door)),
            ..Site::default()
        };
        self.0.lock().unwrap().sites.insert(addr, site);
        let place = MemoryPlace {
            net: self.clone(),
            addr,
            tasks: JoinSet::new(),
        };
        (UnboundedReceiverStream::new(incoming), place)
    }

    /// From now on `addr` accepts connections and is silent on them.
    pub(crate) fn silence(&self, addr: SocketAddr) {
        let mut net = self.0.lock().unwrap();
        net.sites.entry(addr).or_default().door = Some(Door::Silent(vec![]));
    }

    /// Ends all connections of `addr`, and refuses new ones.
    pub(crate) fn kill(&self, addr: SocketAddr) {
        let site = self.0.lock().unwrap().sites.remove(&addr);
        for link in site.into_iter().flat_map(|site| site.links) {
            link.set(Flow::Reset);
        }
    }

    /// Ends all connections of `addr`, which goes on listening.
    pub(crate) fn reset(&self, addr: SocketAddr) {
        let mut net = self.0.lock().unwrap();
        let links = std::mem::take(&mut net.sites.get_mut(&addr).unwrap().links);
        drop(net);
        for link in links {
            link.set(Flow::Reset);
        }
    }

    /// No byte moves from or to `addr` any more; nobody is told.
    pub(crate) fn cut(&self, addr: SocketAddr) {
        self.set_flow(addr, true, Flow::Halted);
    }

    /// Bytes move again.
    pub(crate) fn mend(&self, addr: SocketAddr) {
        self.set_flow(addr, false, Flow::Open);
    }

    fn set_flow(&self, addr: SocketAddr, cut: bool, flow: Flow) {
        let mut net = self.0.lock().unwrap();
        let site = net.sites.get_mut(&addr).unwrap();
        site.cut = cut;
        let links = site.links.clone();
        drop(net);
        for link in links {
            link.set(flow);
        }
    }

    /// Whether somebody listens at `addr`.
    pub(crate) fn is_listening(&self, addr: SocketAddr) -> bool {
        self.0.lock().unwrap().sites.contains_key(&addr)
    }

    /// Whether there is a connection to `addr` that neither end has given up.
    pub(crate) fn is_connected(&self, addr: SocketAddr) -> bool {
        let net = self.0.lock().unwrap();
        let links = net
            .sites
            .get(&addr)
            .into_iter()
            .flat_map(|site| &site.links);
        links
            .into_iter()
            .any(|link| !link.closed.load(Ordering::SeqCst))
    }

    /// When the client tried to connect to `addr`.
    pub(crate) fn dials(&self, addr: SocketAddr) -> Vec<Instant> {
        let net = self.0.lock().unwrap();
        let to = net.dials.iter().filter(|(to, _)| *to == addr);
        to.map(|(_, at)| *at).collect()
    }

    fn dial(&self, addr: SocketAddr) -> Dial {
        let mut net = self.0.lock().unwrap();
        net.dials.push((addr, Instant::now()));
        let Some(site) = net.sites.get_mut(&addr) else {
            return Dial::Refused;
        };
        if site.cut {
            return Dial::Lost;
        }
        let (near, far) = tokio::io::duplex(BUFFER);
        let link = Arc::new(Link::default());
        let end = |io, side| End {
            io,
            link: Arc::clone(&link),
            side,
        };
        let (near, far) = (end(near, 0), end(far, 1));
        match &mut site.door {
            None => return Dial::Refused,
            Some(Door::Silent(held)) => held.push(far),
            Some(Door::Listening(door)) => {
                if door.send(Ok(far)).is_err() {
                    return Dial::Refused;
                }
            }
        }
        site.links.push(link);
        Dial::Connected(near)
    }
}

enum Dial {
    Connected(End),
    Refused,
    /// No answer ever.
    Lost,
}

impl Connect for Net {
    fn connect(&self, address: &Address) -> BoxFuture<'static, io::Result<Box<dyn Transport>>> {
        let Address::Tcp(addr) = *address else {
            panic!("{address} is not on this network")
        };
        let net = self.clone();
        // Dialled when the attempt runs, not when it is made.
        future::lazy(move |_| net.dial(addr))
            .then(|dial| async move {
                match dial {
                    Dial::Connected(end) => Ok(Box::new(end) as Box<dyn Transport>),
                    Dial::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
                    Dial::Lost => future::pending().await,
                }
            })
            .boxed()
    }
}

/// Where a server in memory runs.
pub(crate) struct MemoryPlace {
    net: Net,
    addr: SocketAddr,
    tasks: JoinSet<()>,
}

impl MemoryPlace {
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    pub(crate) fn kill(&mut self) {
        self.tasks.abort_all();
        self.net.kill(self.addr);
    }
}

/// What happens to bytes on a connection.
#[derive(Debug, Clone, Copy, Default)]
enum Flow {
    #[default]
    Open,
    Halted,
    Reset,
}

/// A connection, as far as the network has a say in it.
#[derive(Debug, Default)]
struct Link {
    flow: Mutex<(Flow, [Option<Waker>; 4])>,
    closed: AtomicBool,
}

impl Link {
    fn set(&self, flow: Flow) {
        let mut link = self.flow.lock().unwrap();
        link.0 = flow;
        let waiting = link.1.each_mut().map(Option::take);
        drop(link);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Lets pass, or keeps `cx` waiting. `place` is one for each side and direction.
    fn poll_open(&self, place: usize, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut link = self.flow.lock().unwrap();
        match link.0 {
            Flow::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            flow => {
                // Also while it is open: it may be halted while the other end is
                // waited for.
                link.1[place] = Some(cx.waker().clone());
                match flow {
                    Flow::Halted => Poll::Pending,
                    _ => Poll::Ready(Ok(())),
                }
            }
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    io: DuplexStream,
    link: Arc<Link>,
    side: usize,
}

impl Drop for End {
    fn drop(&mut self) {
        self.link.closed.store(true, Ordering::SeqCst);
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.link.poll_open(self.side, cx))?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.link.poll_open(2 + self.side, cx))?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Connected for End {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
