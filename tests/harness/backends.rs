//! Greeters that count their calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Running backends. They end when this is dropped.
pub struct Backends {
    backends: Vec<(SocketAddr, Arc<AtomicU64>)>,
    _tasks: JoinSet<()>,
}

struct Counting(Arc<AtomicU64>);

#[tonic::async_trait]
impl Greeter for Counting {
    async fn say_hello(
        &self,
        _request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(HelloReply::default()))
    }
}

impl Backends {
    /// Starts so many backends on loopback ports.
    pub async fn start(count: usize) -> Self {
        let mut tasks = JoinSet::new();
        let mut backends = Vec::new();
        for _ in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let calls = Arc::new(AtomicU64::new(0));
            backends.push((listener.local_addr().unwrap(), Arc::clone(&calls)));
            let greeter = GreeterServer::new(Counting(calls));
            tasks.spawn(async move {
                let incoming = TcpListenerStream::new(listener);
                let server = Server::builder().add_service(greeter);
                server.serve_with_incoming(incoming).await.unwrap();
            });
        }
        Self {
            backends,
            _tasks: tasks,
        }
    }

    /// Where the backend is.
    #[must_use]
    pub fn addr(&self, index: usize) -> SocketAddr {
        self.backends[index].0
    }

    /// The backends with these weights, for a configuration.
    #[must_use]
    pub fn weighted(&self, weights: &[f64]) -> Vec<(SocketAddr, f64)> {
        let addrs = self.backends.iter().map(|(addr, _)| *addr);
        addrs.zip(weights.iter().copied()).collect()
    }

    /// Calls each has had.
    #[must_use]
    pub fn calls(&self) -> Vec<u64> {
        let counts = self.backends.iter().map(|(_, calls)| calls);
        counts.map(|calls| calls.load(Ordering::Relaxed)).collect()
    }
}
