//! When the fallback addresses are used, and when no longer.

use std::net::SocketAddr;
use std::time::Duration;

use lookaside_client::{Builder, Channel, ConnectivityState};
use tonic::Code;

use crate::harness::{
    Backend, Balancer, connect, entry, hello, hellos, nobody, reach, reach_at_last, ready, share,
    until,
};

/// A channel whose fallback is `fallback`.
fn with_fallback(balancer: SocketAddr, fallback: &Backend) -> Builder {
    Channel::builder(format!("static:{}", fallback.addr)).balancer(balancer.to_string())
}

#[tokio::test]
async fn a_balancer_that_refuses_means_fallback_at_once() {
    let spare = Backend::start("spare").await;
    let builder = with_fallback(nobody().await, &spare).fallback_timeout(Duration::from_secs(3600));
    let channel = connect(builder).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "spare");
}

#[tokio::test]
async fn a_balancer_that_ends_the_first_stream_means_fallback_at_once() {
    let mut balancer = Balancer::start().await;
    let spare = Backend::start("spare").await;
    let channel = with_fallback(balancer.addr, &spare)
        .fallback_timeout(Duration::from_secs(3600))
        .connect_lazy()
        .unwrap();
    let stream = balancer.accept().await;
    stream.fail(tonic::Status::unavailable("overloaded"));
    assert_eq!(hello(&channel).await.unwrap(), "spare");
}

#[tokio::test]
async fn a_silent_balancer_means_fallback_after_the_timeout_until_its_list() {
    let mut balancer = Balancer::start().await;
    let (a, spare) = (Backend::start("a").await, Backend::start("spare").await);
    let channel = with_fallback(balancer.addr, &spare)
        .fallback_timeout(Duration::from_millis(50))
        .connect_lazy()
        .unwrap();
    let stream = balancer.greet().await;
    assert_eq!(hello(&channel).await.unwrap(), "spare");
    stream.list([entry(a.addr, "")]);
    reach(&channel, "a").await;
}

#[tokio::test]
async fn fallback_response_is_obeyed_and_the_same_list_ends_it() {
    let mut balancer = Balancer::start().await;
    let (a, spare) = (Backend::start("a").await, Backend::start("spare").await);
    let channel = with_fallback(balancer.addr, &spare).connect_lazy().unwrap();
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    stream.fallback();
    reach(&channel, "spare").await;
    // An empty list is no reason to leave.
    stream.list([]);
    stream.list([entry(a.addr, "")]);
    reach(&channel, "a").await;
}

#[tokio::test]
async fn fallback_response_without_fallback_addresses_fails_rpcs_until_the_next_list() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = Channel::builder("dns:///greeter:50051")
        .balancer(balancer.addr.to_string())
        .connect_lazy()
        .unwrap();
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "one")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    let mut states = channel.watch_state();
    stream.fallback();
    // The operator has drained every backend: none gets calls any more.
    until("the end of the list", async || {
        states.changed().await == Some(ConnectivityState::TransientFailure)
    })
    .await;
    let failed = hello(&channel).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    for part in ["has no backend", "no fallback address"] {
        assert!(failed.message().contains(part), "{failed}");
    }
    stream.list([entry(a.addr, "two")]);
    ready(&channel).await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn balancer_and_backends_lost_means_fallback_until_the_same_list_is_back() {
    let mut balancer = Balancer::start().await;
    let mut a = Backend::start("a").await;
    let spare = Backend::start("spare").await;
    let channel = with_fallback(balancer.addr, &spare).connect_lazy().unwrap();
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "same")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    let (balancer_addr, backend_addr) = (balancer.addr, a.addr);
    balancer.kill();
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    a.kill();
    reach_at_last(&channel, "spare").await;
    let _a = Backend::start_at("a", backend_addr).await;
    // A list does not cut short the backoff of a backend that has just refused.
    until("the end of the backoff", async || {
        channel.metrics().subchannels.transient_failure == 0
    })
    .await;
    let mut balancer = Balancer::start_at(balancer_addr).await;
    let stream = balancer.greet().await;
    stream.list([entry(backend_addr, "same")]);
    reach(&channel, "a").await;
}

#[tokio::test]
async fn while_the_balancer_lives_dead_backends_mean_no_fallback() {
    let mut balancer = Balancer::start().await;
    let spare = Backend::start("spare").await;
    let dead = nobody().await;
    let channel = with_fallback(balancer.addr, &spare).connect_lazy().unwrap();
    let stream = balancer.greet().await;
    stream.list([entry(dead, "")]);
    for _ in 0..20 {
        let status = hello(&channel).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    }
    assert_eq!(spare.connections(), 0);
}

#[tokio::test]
async fn without_balancer_and_fallback_the_error_says_both() {
    let dead = nobody().await;
    let builder = Channel::builder("dns:///greeter:50051").balancer(dead.to_string());
    let error = connect(builder).await.unwrap_err().to_string();
    assert!(error.contains(&dead.to_string()), "{error}");
    assert!(error.contains("no fallback address"), "{error}");
}
