//! Backends that are asked how busy they are.

use lookaside_backend::{Load, Utilization};
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use lookaside_tests::{Backends, Balancer, service};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::registration::until_counted;

struct Answering;

#[tonic::async_trait]
impl Greeter for Answering {
    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply::default()))
    }
}

fn asking(listed: &str) -> String {
    listed.replace(
        "backends",
        "load = { kind = \"orca\", interval = \"1s\" }\nbackends",
    )
}

#[tokio::test]
async fn a_backend_that_serves_orca_is_asked_and_its_reports_count() {
    let load = Load::new(Utilization::Set);
    load.set_utilization(0.5);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    let server = tonic::transport::Server::builder()
        .add_service(GreeterServer::new(Answering))
        .add_service(load.orca())
        .serve_with_incoming(TcpListenerStream::new(listener));
    tasks.spawn(async move { server.await.unwrap() });
    let balancer = Balancer::start(&asking(&service("greeter.test", &[(addr, 1.0)]))).await;
    until_counted(
        &balancer,
        "lookaside_load_reports_total{result=\"taken\"} 3",
    )
    .await;
    until_counted(&balancer, "lookaside_load_streams 1").await;

    // It is no backend any more, and is not asked any more.
    balancer.edit(&asking(&service(
        "greeter.test",
        &[("127.0.0.1:9".parse().unwrap(), 1.0)],
    )));
    until_counted(&balancer, "lookaside_load_streams 0").await;
    until_counted(
        &balancer,
        "lookaside_load_streams_ended_total{reason=\"no_connection\"} 1",
    )
    .await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_backend_without_orca_is_asked_once_on_a_connection() {
    // In a runtime of its own, so that it can end with its connections.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let backends = runtime.spawn(Backends::start(1)).await.unwrap();
    let asking = asking(&service("greeter.test", &backends.weighted(&[1.0])));
    let balancer = Balancer::start(&asking).await;
    let once = "lookaside_load_streams_ended_total{reason=\"unimplemented\"} 1";
    until_counted(&balancer, once).await;
    runtime.shutdown_background();
    // Its end is noticed: from then on there is nobody to ask.
    let gone = "lookaside_load_streams_ended_total{reason=\"no_connection\"} 1";
    until_counted(&balancer, gone).await;
    until_counted(&balancer, once).await;
    balancer.stop().await;
}
