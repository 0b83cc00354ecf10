//! The other ends of a channel: backends, a balancer whose streams the test
//! drives, and a DNS server that says what the test wants.
//!
//! On real sockets each runs in a runtime of its own, so that a test can kill
//! one: all its sockets close at once, as when a process dies. What is about time
//! runs in a [`World`] in memory, on a paused clock.
//!
//! Nothing here waits for ever: a promise that is broken is a panic that says
//! what was waited for, and where.

mod backend;
mod balancer;
mod dns;
mod log;
mod memory;
mod names;
mod refuser;
mod stream_server;
mod wait;
mod world;

use std::net::SocketAddr;

use lookaside_client::{Builder, Channel, ConnectivityState, Error, StateWatch, WaitForReady};
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::{Request, Status};

pub(crate) use self::backend::Backend;
pub(crate) use self::balancer::{Balancer, BalancerStream, drop_entry, entry};
pub(crate) use self::dns::{DnsServer, Fault};
pub(crate) use self::log::Log;
pub(crate) use self::memory::{Incoming, Net};
pub(crate) use self::names::{Names, balancer};
pub(crate) use self::refuser::{Refusal, Refuser};
pub(crate) use self::stream_server::{StreamServer, end, timed};
pub(crate) use self::wait::{until, within};
pub(crate) use self::world::World;

/// Where a server lives, and dies.
pub(crate) enum Place {
    Sockets(Process),
    Memory(memory::MemoryPlace),
}

impl Place {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Sockets(process) => process.spawn(task),
            Self::Memory(place) => place.spawn(task),
        }
    }

    fn kill(&mut self) {
        match self {
            Self::Sockets(process) => process.kill(),
            Self::Memory(place) => place.kill(),
        }
    }
}

/// A process, as far as its sockets go.
pub(crate) struct Process(Option<Runtime>);

impl Process {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self(Some(runtime.unwrap()))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.as_ref().unwrap().spawn(task);
    }

    /// Opens a listener that belongs to this process.
    pub(crate) async fn listen(&self, addr: SocketAddr) -> TcpListener {
        let handle = self.0.as_ref().unwrap().handle().clone();
        let bind = handle.spawn(async move { TcpListener::bind(addr).await });
        bind.await.unwrap().unwrap()
    }

    /// Closes everything at once.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address on which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

pub(crate) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// `:authority` of a request, which tonic does not pass on.
#[derive(Clone)]
pub(crate) struct SeenAuthority(pub(crate) String);

/// Keeps `:authority` where a tonic service finds it.
pub(crate) fn see_authority<B>(mut request: http::Request<B>) -> http::Request<B> {
    let authority = request.uri().authority().map(ToString::to_string);
    let seen = SeenAuthority(authority.unwrap_or_default());
    request.extensions_mut().insert(seen);
    request
}

/// A channel to `greeter:50051` that follows `balancer`, without fallback.
pub(crate) fn follow(balancer: &Balancer) -> Channel {
    Channel::builder("dns:///greeter:50051")
        .balancer(balancer.addr.to_string())
        .connect_lazy()
        .unwrap()
}

#[track_caller]
pub(crate) fn connect(builder: Builder) -> impl Future<Output = Result<Channel, Error>> {
    within("a connected channel", builder.connect())
}

/// One RPC; returns the name of the backend that answered.
#[track_caller]
pub(crate) fn hello(channel: &Channel) -> impl Future<Output = Result<String, Status>> + use<> {
    call(channel, Request::new(named("test")))
}

/// One RPC that waits for a connection.
#[track_caller]
pub(crate) fn patient_hello(
    channel: &Channel,
) -> impl Future<Output = Result<String, Status>> + use<> {
    let mut request = Request::new(named("test"));
    request.extensions_mut().insert(WaitForReady);
    call(channel, request)
}

/// One RPC with `request`.
#[track_caller]
pub(crate) fn call(
    channel: &Channel,
    request: Request<HelloRequest>,
) -> impl Future<Output = Result<String, Status>> + use<> {
    let mut greeter = GreeterClient::new(channel.clone());
    within("an answer", async move {
        Ok(greeter.say_hello(request).await?.into_inner().message)
    })
}

pub(crate) fn named(name: &str) -> HelloRequest {
    HelloRequest {
        name: name.to_owned(),
    }
}

/// Waits until RPCs are sent.
#[track_caller]
pub(crate) fn ready(channel: &Channel) -> impl Future<Output = ()> + use<> {
    let channel = channel.clone();
    let ready = within("a ready channel", async move { channel.wait_ready().await });
    async { ready.await.unwrap() }
}

/// Waits until the channel has come to `wanted`.
#[track_caller]
pub(crate) fn state_is(
    states: &mut StateWatch,
    wanted: ConnectivityState,
) -> impl Future<Output = ()> {
    within(format!("{wanted:?}"), async move {
        while states.state() != wanted {
            states.changed().await;
        }
    })
}

/// `count` RPCs, one after the other; returns who answered, in order.
#[track_caller]
pub(crate) fn hellos(channel: &Channel, count: usize) -> impl Future<Output = Vec<String>> {
    let at = std::panic::Location::caller();
    async move {
        let mut names = vec![];
        for _ in 0..count {
            match hello(channel).await {
                Ok(name) => names.push(name),
                Err(status) => panic!("{at}: after {} answers: {status}", names.len()),
            }
        }
        names
    }
}

/// Calls until `name` answers. None of these may fail.
#[track_caller]
pub(crate) fn reach(channel: &Channel, name: &str) -> impl Future<Output = ()> {
    until(format!("an answer of {name:?}"), async move || {
        hello(channel).await.unwrap() == name
    })
}

/// Calls until `name` answers, whatever the others do.
#[track_caller]
pub(crate) fn reach_at_last(channel: &Channel, name: &str) -> impl Future<Output = ()> {
    until(format!("an answer of {name:?}"), async move || {
        hello(channel).await.is_ok_and(|answer| answer == name)
    })
}

/// Calls until `name` has answered `wanted` of `count` RPCs in a row. None may fail.
#[track_caller]
pub(crate) fn until_share(
    channel: &Channel,
    name: &str,
    wanted: usize,
    count: usize,
) -> impl Future<Output = ()> {
    until(
        format!("{wanted} of {count} answers of {name:?}"),
        async move || share(&hellos(channel, count).await, name) == wanted,
    )
}

/// How often `name` is among `names`.
pub(crate) fn share(names: &[String], name: &str) -> usize {
    names.iter().filter(|n| *n == name).count()
}
