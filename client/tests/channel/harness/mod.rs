//! The other ends of a channel: backends, a balancer whose streams the test
//! drives, and a DNS server that says what the test wants.
//!
//! Each runs in a runtime of its own, so that a test can kill one: all its
//! sockets close at once, as when a process dies.

mod backend;
mod balancer;
mod dns;
mod refuser;

use std::net::SocketAddr;

use lookaside_client::Channel;
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::Status;

pub(crate) use self::backend::Backend;
pub(crate) use self::balancer::{Balancer, BalancerStream, drop_entry, entry};
pub(crate) use self::dns::DnsServer;
pub(crate) use self::refuser::{Refusal, Refuser};

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

/// One RPC; returns the name of the backend that answered.
pub(crate) async fn hello(channel: &Channel) -> Result<String, Status> {
    let request = HelloRequest {
        name: "test".to_owned(),
    };
    let reply = GreeterClient::new(channel.clone())
        .say_hello(request)
        .await?;
    Ok(reply.into_inner().message)
}

/// `count` RPCs, one after the other; returns who answered, in order.
pub(crate) async fn hellos(channel: &Channel, count: usize) -> Vec<String> {
    let mut names = vec![];
    for _ in 0..count {
        names.push(hello(channel).await.unwrap());
    }
    names
}

/// How often `name` is among `names`.
pub(crate) fn share(names: &[String], name: &str) -> usize {
    names.iter().filter(|n| *n == name).count()
}
