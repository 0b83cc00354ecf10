//! RPCs that the balancer wants dropped.

use lookaside_client::{Channel, WaitForReady};
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tonic::Code;

use crate::harness::{Backend, Balancer, drop_entry, entry, hello};

fn follow(balancer: &Balancer) -> Channel {
    Channel::builder("dns:///greeter:50051")
        .balancer(balancer.addr.to_string())
        .connect_lazy()
        .unwrap()
}

#[tokio::test]
async fn one_entry_of_four_drops_a_quarter() {
    let mut balancer = Balancer::start().await;
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([
        entry(a.addr, ""),
        drop_entry("rate"),
        entry(b.addr, ""),
        entry(a.addr, ""),
    ]);
    let mut dropped = 0;
    for _ in 0..400 {
        match hello(&channel).await {
            Ok(_) => {}
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable);
                assert!(status.message().contains("dropped"), "{status}");
                dropped += 1;
            }
        }
    }
    assert_eq!(dropped, 100);
}

#[tokio::test]
async fn a_backend_that_dies_does_not_change_the_share_of_drops() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let mut b = Backend::start("b").await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, ""), drop_entry("rate")]);
    // Counted from a drop to a drop, so that rounds are whole.
    while hello(&channel).await.is_ok() {}
    b.kill();
    let mut dropped = 0;
    let mut answers = vec![];
    for _ in 0..300 {
        match hello(&channel).await {
            Ok(name) => answers.push(name),
            Err(status) if status.message().contains("dropped") => dropped += 1,
            // The RPC that "b" took with it.
            Err(_) => {}
        }
    }
    assert_eq!(dropped, 100);
    assert!(answers.ends_with(&["a".to_owned(), "a".to_owned()]));
}

#[tokio::test]
async fn a_list_of_drops_alone_drops_all_even_what_waits_for_ready() {
    let mut balancer = Balancer::start().await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([drop_entry("maintenance")]);
    for _ in 0..3 {
        let mut request = tonic::Request::new(HelloRequest::default());
        request.extensions_mut().insert(WaitForReady);
        let reply = GreeterClient::new(channel.clone()).say_hello(request).await;
        assert!(reply.unwrap_err().message().contains("dropped"));
    }
}
