//! The life of the stream to the balancer.

use std::net::SocketAddr;

use lookaside_client::Channel;
use lookaside_client::resolve::{BalancerAddress, FixedResolver, Resolution};
use tonic::Status;

use crate::harness::{
    Backend, Balancer, StreamServer, entry, follow, hello, hellos, nobody, reach, share, until,
};

#[tokio::test]
async fn rpcs_go_on_while_the_balancer_is_dead_and_follow_it_when_it_is_back() {
    let mut balancer = Balancer::start().await;
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    hello(&channel).await.unwrap();
    let addr = balancer.addr;
    balancer.kill();
    assert_eq!(share(&hellos(&channel, 100).await, "a"), 100);
    let mut balancer = Balancer::start_at(addr).await;
    let stream = balancer.greet().await;
    stream.list([entry(b.addr, "")]);
    reach(&channel, "b").await;
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again_and_the_list_stays() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    for _ in 0..2 {
        let stream = balancer.greet().await;
        stream.list([entry(a.addr, "")]);
        hello(&channel).await.unwrap();
        drop(stream);
        assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    }
    balancer
        .greet()
        .await
        .fail(Status::not_found("no such service"));
    balancer.accept().await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
}

#[tokio::test]
async fn dropping_the_channel_cancels_the_stream() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let mut stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    hello(&channel).await.unwrap();
    let clone = channel.clone();
    drop(channel);
    hello(&clone).await.unwrap();
    drop(clone);
    assert!(stream.next_request().await.is_none());
}

#[tokio::test]
async fn dropping_the_channel_leaves_no_task() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let dead = nobody().await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(dead, "")]);
    hellos(&channel, 10).await;
    assert!(tasks() > before);
    drop(channel);
    until("the end of all tasks", async || tasks() == before).await;
}

#[tokio::test]
async fn the_second_balancer_takes_over_from_the_first() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let dead = nobody().await;
    let resolver = FixedResolver::new(two(dead, balancer.addr));
    let channel = Channel::builder("dns:///greeter:50051")
        .resolver(resolver)
        .connect_lazy()
        .unwrap();
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    hello(&channel).await.unwrap();
}

#[tokio::test]
async fn messages_that_make_no_sense_are_ignored() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.empty();
    stream.initial(std::time::Duration::ZERO);
    stream.list([entry(a.addr, "")]);
    hello(&channel).await.unwrap();
}

fn two(first: SocketAddr, second: SocketAddr) -> Resolution {
    let balancers = [first, second].map(|addr| BalancerAddress {
        addr,
        authority: "lb.test".to_owned(),
    });
    Resolution::default().with_balancers(balancers.into())
}

#[tokio::test]
async fn a_server_that_is_no_balancer_is_asked_whether_it_is_one() {
    let backend = Backend::start("a").await;
    let channel = Channel::builder("dns:///greeter.test:1")
        .balancer(backend.addr.to_string())
        .connect_lazy()
        .unwrap();
    let status = hello(&channel).await.unwrap_err();
    let text = status.message();
    assert!(text.contains("ended with Unimplemented"), "{text}");
    assert!(
        text.contains("is this the port of a grpc.lb.v1 balancer?"),
        "{text}"
    );
    assert!(!text.contains(": ;"), "{text}");
}

#[tokio::test]
async fn http_that_is_not_grpc_is_told_of_a_balancer_too() {
    let mut gateway = StreamServer::start(&h2::server::Builder::new()).await;
    let channel = Channel::builder("dns:///greeter.test:1")
        .balancer(gateway.addr.to_string())
        .connect_lazy()
        .unwrap();
    let answer = async {
        let response = http::Response::builder().status(503);
        let response = response.header("content-type", "text/html").body(());
        let mut respond = gateway.next().await;
        let mut body = respond.send_response(response.unwrap(), false).unwrap();
        body.send_data("<h1>the gateway</h1>".into(), true).unwrap();
    };
    let (answered, ()) = tokio::join!(hello(&channel), answer);
    let status = answered.unwrap_err();
    let text = status.message();
    for wanted in [
        "ended with Unavailable",
        "HTTP 503 Service Unavailable",
        "text/html",
        "<h1>the gateway</h1>",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
}
