//! The Rust client against the real balancer: names by its DNS, calls by its
//! lists.

use lookaside_client::Channel;
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use lookaside_tests::{Backends, Balancer, eventually, service, soon};
use tonic::Code;

async fn channel(balancer: &Balancer) -> Channel {
    let target = format!("dns://{}/greeter.test:50051", balancer.dns());
    soon("a channel", Channel::builder(target).connect())
        .await
        .unwrap()
}

/// Makes so many calls; how many were dropped. None may fail otherwise.
async fn call(channel: &Channel, count: u64) -> u64 {
    let mut greeter = GreeterClient::new(channel.clone());
    let mut dropped = 0;
    for _ in 0..count {
        match soon("a reply", greeter.say_hello(HelloRequest::default())).await {
            Ok(_) => {}
            Err(status)
                if status.code() == Code::Unavailable && status.message().contains("drop") =>
            {
                dropped += 1;
            }
            Err(status) => panic!("{status}"),
        }
    }
    dropped
}

#[tokio::test]
async fn shares_are_the_weights() {
    let backends = Backends::start(2).await;
    let balancer = Balancer::start(&service("greeter.test", &backends.weighted(&[3.0, 1.0]))).await;
    let channel = channel(&balancer).await;
    call(&channel, 400).await;
    let calls = backends.calls();
    // Both may still have been connecting during the first calls.
    assert!((292..=308).contains(&calls[0]), "{calls:?}");
    balancer.stop().await;
}

#[tokio::test]
async fn a_drained_backend_gets_no_new_calls_and_no_call_fails() {
    let backends = Backends::start(2).await;
    let both = service("greeter.test", &backends.weighted(&[1.0, 1.0]));
    let balancer = Balancer::start(&both).await;
    let channel = channel(&balancer).await;
    call(&channel, 20).await;
    let lists = channel.lists_followed();
    balancer.edit(&service("greeter.test", &backends.weighted(&[0.0, 1.0])));
    eventually("the new list", || channel.lists_followed() > lists).await;
    let before = backends.calls();
    call(&channel, 50).await;
    let after = backends.calls();
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1], before[1] + 50);
    balancer.stop().await;
}

#[tokio::test]
async fn drops_of_a_quarter_are_a_quarter() {
    let backends = Backends::start(2).await;
    let text = service("greeter.test", &backends.weighted(&[3.0, 1.0]));
    let text = text.replace("backends", "drop = { overload = 0.25 }\nbackends");
    let balancer = Balancer::start(&text).await;
    let channel = channel(&balancer).await;
    let dropped = call(&channel, 1000).await;
    assert!((240..=260).contains(&dropped), "{dropped}");
    balancer.stop().await;
}

#[tokio::test]
async fn calls_go_on_without_the_balancer() {
    let backends = Backends::start(2).await;
    let balancer = Balancer::start(&service("greeter.test", &backends.weighted(&[1.0, 1.0]))).await;
    let channel = channel(&balancer).await;
    call(&channel, 10).await;
    balancer.stop().await;
    call(&channel, 50).await;
    assert_eq!(backends.calls().iter().sum::<u64>(), 60);
}
