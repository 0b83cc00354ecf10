//! The pool against sockets, and against a network in memory.

mod ending;
mod further;
mod many;

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time;

use super::*;
use crate::subchannel::{Connect, Transport};

/// An empty SETTINGS frame.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

fn pool() -> Pool {
    let rng = fastrand::Rng::with_seed(1);
    Pool::new(ConnectOptions::default(), rng, Arc::default())
}

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::from(listener.local_addr().unwrap());
    (listener, address)
}

async fn refused() -> Address {
    listen().await.1
}

/// Takes a connection and sends the SETTINGS that make it one of HTTP/2.
async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut socket, _): (_, SocketAddr) = listener.accept().await.unwrap();
    socket.write_all(&SETTINGS).await.unwrap();
    socket
}

/// Waits until the peer has closed.
async fn closed(mut socket: TcpStream) {
    let mut buffer = [0; 1024];
    while socket.read(&mut buffer).await.unwrap() > 0 {}
}

#[tokio::test]
async fn ready_once_the_server_speaks_http2_and_idle_when_it_is_gone() {
    let mut pool = pool();
    let (listener, address) = listen().await;
    let subchannel = pool.acquire(&address);
    assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
    pool.connect(&subchannel);
    assert!(matches!(
        pool.state(&subchannel),
        SubchannelState::Connecting
    ));
    let (socket, ()) = tokio::join!(accept(&listener), pool.changed());
    assert!(matches!(pool.state(&subchannel), SubchannelState::Ready(_)));
    assert!(!pool.take_losses());
    drop(socket);
    pool.changed().await;
    assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
    assert!(pool.take_losses());
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_not_ready() {
    let mut pool = pool();
    let (listener, address) = listen().await;
    let subchannel = pool.acquire(&address);
    pool.connect(&subchannel);
    let accepted = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    };
    tokio::join!(accepted, pool.changed());
    let SubchannelState::TransientFailure(reason) = pool.state(&subchannel) else {
        panic!("{:?}", pool.state(&subchannel));
    };
    assert!(
        reason.to_string().contains(&address.to_string()),
        "{reason}"
    );
}

#[tokio::test]
async fn a_failed_subchannel_is_idle_again_after_its_backoff() {
    let mut pool = pool();
    let subchannel = pool.acquire(&refused().await);
    let mut waited = vec![];
    for _ in 0..4 {
        pool.connect(&subchannel);
        let started = Instant::now();
        pool.changed().await;
        let state = pool.state(&subchannel);
        assert!(
            matches!(state, SubchannelState::TransientFailure(_)),
            "{state:?}"
        );
        // No socket is involved until it is idle.
        time::pause();
        pool.changed().await;
        assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
        assert!(pool.last_error(&subchannel).is_some());
        waited.push(started.elapsed().as_secs_f64());
        time::resume();
    }
    for (waited, wanted) in waited.into_iter().zip([1.0, 1.6, 2.56, 4.096]) {
        assert!(waited >= wanted * 0.8, "{waited} for {wanted}");
    }
}

#[tokio::test]
async fn a_released_connection_is_kept_for_ten_seconds() {
    let mut pool = pool();
    let (listener, address) = listen().await;
    let subchannel = pool.acquire(&address);
    pool.connect(&subchannel);
    let (socket, ()) = tokio::join!(accept(&listener), pool.changed());
    drop(subchannel);

    // Taken up again in time, it is the same connection.
    time::pause();
    let changed = time::timeout(Duration::from_secs(9), pool.changed());
    assert!(changed.await.is_err());
    let subchannel = pool.acquire(&address);
    assert!(matches!(pool.state(&subchannel), SubchannelState::Ready(_)));

    // Held, it stays; released for longer, it is closed.
    let changed = time::timeout(Duration::from_secs(60), pool.changed());
    assert!(changed.await.is_err());
    drop(subchannel);
    let changed = time::timeout(Duration::from_secs(11), pool.changed());
    assert!(changed.await.is_err());
    time::resume();
    closed(socket).await;
    let subchannel = pool.acquire(&address);
    assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
}

#[tokio::test]
async fn an_address_has_one_subchannel() {
    let mut pool = pool();
    let address = refused().await;
    assert_eq!(pool.acquire(&address), pool.acquire(&address));
    assert_eq!(pool.places.len(), 1);
}

#[tokio::test]
async fn dropping_the_pool_closes_its_connections() {
    let mut pool = pool();
    let (listener, address) = listen().await;
    let subchannel = pool.acquire(&address);
    pool.connect(&subchannel);
    let (socket, ()) = tokio::join!(accept(&listener), pool.changed());
    drop(pool);
    closed(socket).await;
}

/// What a [`Memory`] has seen, and how it answers.
#[derive(Debug, Default)]
struct World {
    /// Attempts that run.
    running: usize,
    /// Most that ever did.
    most: usize,
    tried: HashSet<Address>,
    /// Addresses that never answer.
    dead: HashSet<Address>,
    /// The other ends, which have said SETTINGS and nothing more.
    accepted: Vec<DuplexStream>,
    /// Where they go instead, to be served.
    servers: Option<mpsc::UnboundedSender<DuplexStream>>,
}

/// A network without sockets.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<World>>);

/// Counts an attempt for as long as it runs.
struct Attempt(Memory);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.world().running -= 1;
    }
}

impl Memory {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn pool(&self, options: ConnectOptions) -> Pool {
        let options = ConnectOptions {
            connector: Arc::new(self.clone()),
            ..options
        };
        Pool::new(options, fastrand::Rng::with_seed(1), Arc::default())
    }
}

impl Connect for Memory {
    fn connect(&self, address: &Address) -> BoxFuture<'static, io::Result<Box<dyn Transport>>> {
        let (memory, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let (dead, servers) = {
                let mut world = memory.world();
                world.running += 1;
                world.most = world.most.max(world.running);
                world.tried.insert(address.clone());
                (world.dead.contains(&address), world.servers.clone())
            };
            let _attempt = Attempt(memory.clone());
            if dead {
                std::future::pending::<()>().await;
            }
            let (client, mut server) = tokio::io::duplex(1 << 10);
            if let Some(servers) = servers {
                servers.send(server).unwrap();
            } else {
                server.write_all(&SETTINGS).await?;
                memory.world().accepted.push(server);
            }
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }
}

fn addresses(count: usize) -> Vec<Address> {
    let ip = |place: usize| Ipv4Addr::from_bits(0x7f00_0000 + place as u32);
    let all = (1..=count).map(|place| SocketAddr::from((ip(place), 80)));
    all.map(Address::from).collect()
}
