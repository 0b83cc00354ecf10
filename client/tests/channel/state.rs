//! What a channel says of itself: its state, and what it has counted.

use std::time::Duration;

use lookaside_client::{Channel, ConnectivityState};

use crate::harness::{
    Backend, Balancer, connect, drop_entry, entry, hello, hellos, nobody, ready, state_is, until,
    within,
};

#[tokio::test]
async fn a_watch_sees_the_channel_become_ready_fail_and_end() {
    let mut a = Backend::start("a").await;
    let target = format!("static:{}", a.addr);
    let channel = Channel::builder(target).connect_lazy().unwrap();
    let mut states = channel.watch_state();
    assert_eq!(states.state(), ConnectivityState::Connecting);
    state_is(&mut states, ConnectivityState::Ready).await;
    a.kill();
    state_is(&mut states, ConnectivityState::TransientFailure).await;
    drop(channel);
    state_is(&mut states, ConnectivityState::Shutdown).await;
    assert_eq!(within("the end", states.changed()).await, None);
}

#[tokio::test]
async fn wait_ready_waits_for_a_backend_that_comes_late() {
    let addr = nobody().await;
    let target = format!("static:{addr}");
    let channel = Channel::builder(target).connect_lazy().unwrap();
    let mut states = channel.watch_state();
    state_is(&mut states, ConnectivityState::TransientFailure).await;
    let _late = Backend::start_at("late", addr).await;
    ready(&channel).await;
    assert_eq!(channel.state(), ConnectivityState::Ready);
    assert_eq!(hello(&channel).await.unwrap(), "late");
}

#[tokio::test]
async fn an_unused_channel_is_idle_until_the_next_rpc() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = Channel::builder("dns:///greeter:50051")
        .balancer(balancer.addr.to_string())
        .idle_timeout(Duration::from_millis(100))
        .connect_lazy()
        .unwrap();
    for round in 1..=2 {
        let mut states = channel.watch_state();
        let call = tokio::spawn(hello(&channel));
        let mut stream = balancer.greet().await;
        stream.list([entry(a.addr, "")]);
        assert_eq!(call.await.unwrap().unwrap(), "a");
        state_is(&mut states, ConnectivityState::Idle).await;
        // The balancer is not kept busy by a client that has nothing to ask.
        assert!(stream.next_request().await.is_none());
        assert!(!channel.metrics().balancer.connected);
        assert_eq!(channel.lists_followed(), round);
    }
    // Whoever wants it ready wakes it too.
    let woken = tokio::spawn(ready(&channel));
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    woken.await.unwrap();
}

#[tokio::test]
async fn metrics_count_every_rpc_and_what_became_of_it() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = Channel::builder("dns:///greeter:50051")
        .balancer(balancer.addr.to_string())
        .connect_lazy()
        .unwrap();
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, ""), drop_entry("rate"), entry(a.addr, "grün")]);
    ready(&channel).await;
    for _ in 0..30 {
        let _ = hello(&channel).await;
    }
    let metrics = channel.metrics();
    assert_eq!(metrics.state, ConnectivityState::Ready);
    assert_eq!((metrics.picks, metrics.drops), (20, 10));
    assert_eq!(metrics.failed_picks, 0);
    assert_eq!((metrics.subchannels.ready, metrics.connects), (1, 1));
    let of_balancer = metrics.balancer;
    assert!(of_balancer.connected && !of_balancer.in_fallback);
    assert_eq!((of_balancer.streams, of_balancer.lists), (1, 1));
    assert_eq!((of_balancer.bad_entries, of_balancer.fallbacks), (1, 0));

    // An RPC is over when its response's body is: tonic reads on to the trailers.
    a.hold(true);
    let under_way = tokio::spawn(hello(&channel));
    until("the call", async || a.calls().len() == 21).await;
    let metrics = channel.metrics();
    assert_eq!(metrics.picks - metrics.finished, 1);
    under_way.abort();
    let _ = under_way.await;
    let metrics = channel.metrics();
    assert_eq!(metrics.picks, metrics.finished);
}

#[tokio::test]
async fn metrics_say_when_the_fallback_addresses_are_in_use() {
    let (balancer, a) = (nobody().await, Backend::start("a").await);
    let builder = Channel::builder(format!("static:{}", a.addr)).balancer(balancer.to_string());
    let channel = connect(builder).await.unwrap();
    hellos(&channel, 3).await;
    let metrics = channel.metrics();
    assert!(metrics.balancer.in_fallback && !metrics.balancer.connected);
    assert_eq!(
        (metrics.balancer.fallbacks, metrics.balancer.streams),
        (1, 0)
    );
    assert_eq!(metrics.picks, 3);
}
