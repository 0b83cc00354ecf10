//! A rolling restart of every backend.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lookaside_backend::{Drained, Load, Utilization};
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Response;

use super::*;

struct Answering;

#[tonic::async_trait]
impl Greeter for Answering {
    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        // Long enough that some are always under way.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(Response::new(HelloReply::default()))
    }
}

/// A backend as the documentation shows it.
struct Backend {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Drained>,
}

impl Backend {
    async fn start(balancer: SocketAddr) -> Self {
        let listener = TcpListener::bind(local(0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let load = Load::new(Utilization::InFlight { limit: 16.0 });
        let registration = Registration::builder(format!("static:{balancer}"))
            .service(GREETER)
            .port(addr.port())
            .load(&load)
            .start()
            .unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let (drained, how) = oneshot::channel();
            tonic::transport::Server::builder()
                .layer(load.layer())
                .add_service(GreeterServer::new(Answering))
                .add_service(load.orca())
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                    let _ = stopped.await;
                    let _ = drained.send(registration.drain().await);
                })
                .await
                .unwrap();
            how.await.unwrap()
        });
        Self {
            addr,
            stop,
            running,
        }
    }

    async fn stop(self) -> Drained {
        self.stop.send(()).unwrap();
        soon("the backend's end", self.running).await.unwrap()
    }
}

#[tokio::test]
async fn a_rolling_restart_fails_no_call() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(Backend::start(balancer.addr()).await);
    }
    let channel = lookaside_client::Channel::builder(format!("dns:///{GREETER}:80"))
        .balancer(balancer.addr().to_string())
        .connect();
    let channel = soon("a channel", channel).await.unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (calls, channel) = (Arc::clone(&calls), channel.clone());
        callers.spawn(async move {
            let mut greeter = GreeterClient::new(channel);
            loop {
                if let Err(status) = greeter.say_hello(HelloRequest::default()).await {
                    return status;
                }
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    for _ in 0..3 {
        let old = backends.remove(0);
        backends.push(Backend::start(balancer.addr()).await);
        let mut all: Vec<SocketAddr> = backends.iter().map(|b| b.addr).collect();
        all.push(old.addr);
        until_listed(&mut follower, &all).await;
        let before = calls.load(Ordering::Relaxed);
        let drained = old.stop().await;
        assert!(drained.is_clean(), "{drained:?}");
        assert_eq!((drained.balancers, drained.acknowledged), (1, 1));
        lookaside_tests::eventually("more calls", || calls.load(Ordering::Relaxed) > before + 20)
            .await;
        assert!(callers.try_join_next().is_none(), "a call failed");
    }
    callers.shutdown().await;
    balancer.stop().await;
}
