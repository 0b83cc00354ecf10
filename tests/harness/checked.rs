//! A backend whose health a test decides, and whose connections it counts and ends.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use lookaside_backend::{Load, Utilization};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Which methods of `grpc.health.v1` a backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthMethods {
    /// `Watch` and `Check`.
    Both,
    /// `Check`.
    Check,
    /// Neither.
    None,
}

/// A backend that serves `grpc.health.v1` and ORCA. Dropping it kills it.
pub struct Checked {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    methods: HealthMethods,
    status: watch::Sender<i32>,
    hangs: AtomicBool,
    released: Notify,
    goaway: watch::Sender<u64>,
    accepted: AtomicU64,
    open: AtomicU64,
    watches: AtomicU64,
    checks: AtomicU64,
}

impl Checked {
    /// Starts one at any port of loopback, which is serving.
    pub async fn start(methods: HealthMethods) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), methods)
    }

    /// Starts one at this address, which may have been another's.
    #[must_use]
    pub fn start_at(addr: SocketAddr, methods: HealthMethods) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(addr).unwrap();
        let listener = socket.listen(128).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            methods,
            status: watch::Sender::new(ServingStatus::Serving as i32),
            hangs: AtomicBool::new(false),
            released: Notify::new(),
            goaway: watch::Sender::new(0),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            checks: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&shared)));
        Self {
            addr,
            shared,
            _tasks: tasks,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on its health is this.
    pub fn set(&self, status: ServingStatus) {
        self.set_number(status as i32);
    }

    /// The same with any number.
    pub fn set_number(&self, status: i32) {
        self.shared.status.send_replace(status);
    }

    /// From now on `Check` and new `Watch`es are not answered; or again.
    pub fn hang(&self, hangs: bool) {
        self.shared.hangs.store(hangs, Ordering::SeqCst);
        self.shared.released.notify_waiters();
    }

    /// Sends GOAWAY on every connection, and takes new ones.
    pub fn goaway(&self) {
        self.shared.goaway.send_modify(|times| *times += 1);
    }

    /// Connections it has accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How often `Watch` was called.
    #[must_use]
    pub fn watches(&self) -> u64 {
        self.shared.watches.load(Ordering::SeqCst)
    }

    /// How often `Check` was called.
    #[must_use]
    pub fn checks(&self) -> u64 {
        self.shared.checks.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let load = Load::new(Utilization::Set);
    load.set_utilization(0.5);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let routes = Routes::new(load.orca());
                let routes = match shared.methods {
                    HealthMethods::None => routes,
                    _ => routes.add_service(HealthServer::new(Told(Arc::clone(&shared)))),
                };
                connections.spawn(connection(stream, routes, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, routes: Routes, shared: Arc<Shared>) {
    let mut goaway = shared.goaway.subscribe();
    shared.open.fetch_add(1, Ordering::SeqCst);
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut served = pin!(served);
    tokio::select! {
        _ = served.as_mut() => {}
        _ = goaway.changed() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

struct Told(Arc<Shared>);

impl Told {
    async fn answering(&self) {
        loop {
            let released = self.0.released.notified();
            if !self.0.hangs.load(Ordering::SeqCst) {
                return;
            }
            released.await;
        }
    }
}

fn answer(status: i32) -> HealthCheckResponse {
    HealthCheckResponse { status }
}

#[tonic::async_trait]
impl Health for Told {
    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.checks.fetch_add(1, Ordering::SeqCst);
        self.answering().await;
        let status = *self.0.status.borrow();
        Ok(Response::new(answer(status)))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.0.watches.fetch_add(1, Ordering::SeqCst);
        if self.0.methods == HealthMethods::Check {
            return Err(Status::unimplemented("no Watch here"));
        }
        self.answering().await;
        let statuses = WatchStream::new(self.0.status.subscribe());
        Ok(Response::new(Box::pin(
            statuses.map(|status| Ok(answer(status))),
        )))
    }
}
