//! Backends come and go.

use std::net::SocketAddr;

use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::registration_v1::registration::Where;
use lookaside_tests::{Balancer, Follower, soon};
use tokio::net::TcpListener;
use tonic::Code;

use super::*;

#[tokio::test]
async fn backends_are_listed_when_they_register_and_not_when_they_left() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let backends = [register(balancer.addr(), 81), register(balancer.addr(), 82)];
    for backend in &backends {
        soon("registration", backend.registered()).await.unwrap();
    }
    // Held until the balancer knows who is there: its first list has both.
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    let first = follower.next_list().await.counts();
    assert_eq!(first.len(), 2);

    let drained = soon("the drain", backends[0].drain()).await;
    assert!(drained.is_clean(), "{drained:?}");
    assert_eq!((drained.balancers, drained.acknowledged), (1, 1));
    until_listed(&mut follower, &[local(82)]).await;
    backends[1].leave().await;
    let last = follower.next().await.unwrap();
    assert!(matches!(last, LoadBalanceResponseType::FallbackResponse(_)));
    until_counted(
        &balancer,
        "lookaside_registrations_ended_total{reason=\"left\"} 2",
    )
    .await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_backend_that_is_killed_leaves_before_its_lease_is_over() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let listeners = [
        TcpListener::bind(local(0)).await.unwrap(),
        TcpListener::bind(local(0)).await.unwrap(),
    ];
    let addrs = [0, 1].map(|i: usize| listeners[i].local_addr().unwrap());
    let [first, _second] = addrs.map(|addr| register(balancer.addr(), addr.port()));
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    until_listed(&mut follower, &addrs).await;

    let [listener, _alive] = listeners;
    drop(listener);
    drop(first);
    until_listed(&mut follower, &addrs[1..]).await;
    let line = "lookaside_registrations_ended_total{reason=\"probe_refused\"} 1";
    until_counted(&balancer, line).await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_backend_whose_stream_breaks_off_stays_listed_while_it_is_there() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let listener = TcpListener::bind(local(0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let channel = channel(balancer.addr()).await;
    let stream = Raw::open(&channel, said(Where::Port(addr.port().into()), "a"), "").await;
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    until_listed(&mut follower, &[addr]).await;
    drop(stream);
    let suspect = format!("lookaside_backends{{service=\"{GREETER}\",state=\"suspect\"}} 1");
    until_counted(&balancer, &suspect).await;
    let back = Raw::open(&channel, said(Where::Port(addr.port().into()), "a"), "").await;
    let serving = format!("lookaside_backends{{service=\"{GREETER}\",state=\"serving\"}} 1");
    until_counted(&balancer, &serving).await;
    drop(back);
    balancer.stop().await;
}

#[tokio::test]
async fn a_silent_backend_leaves_when_its_lease_is_over() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let speaking = [register(balancer.addr(), 81), register(balancer.addr(), 82)];
    let channel = channel(balancer.addr()).await;
    let mut silent = Raw::open(&channel, said(Where::Port(83), "a"), "")
        .await
        .unwrap();
    let told = silent.registered().await;
    assert_eq!(told.address, "127.0.0.1:83");
    assert_eq!(told.lease.unwrap().seconds, 3);
    assert_eq!(told.report_interval.unwrap().seconds, 1);
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    until_listed(&mut follower, &[local(81), local(82)]).await;
    let line = "lookaside_registrations_ended_total{reason=\"expired\"} 1";
    until_counted(&balancer, line).await;
    drop(speaking);
    balancer.stop().await;
}

#[tokio::test]
async fn a_backend_that_was_silent_for_its_lease_is_listed_again_when_it_speaks() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let speaking = [register(balancer.addr(), 81), register(balancer.addr(), 82)];
    let channel = channel(balancer.addr()).await;
    let mut silent = Raw::open(&channel, said(Where::Port(83), "a"), "")
        .await
        .unwrap();
    silent.registered().await;
    let line = "lookaside_registrations_ended_total{reason=\"expired\"} 1";
    until_counted(&balancer, line).await;
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    until_listed(&mut follower, &[local(81), local(82)]).await;
    silent.load(OrcaLoadReport::default()).await;
    until_listed(&mut follower, &[local(81), local(82), local(83)]).await;
    drop(speaking);
    balancer.stop().await;
}

#[tokio::test]
async fn of_two_for_one_address_the_newer_is_listed() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let channel = channel(balancer.addr()).await;
    let open = |instance| Raw::open(&channel, said(Where::Port(81), instance), "");
    let mut old = open("old").await.unwrap();
    old.registered().await;
    let mut new = open("new").await.unwrap();
    new.registered().await;
    let end = old.next().await.unwrap_err();
    assert_eq!(end.code(), Code::AlreadyExists, "{end:?}");
    // The end of the old one's stream is nothing to the new one.
    drop(old);
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    until_listed(&mut follower, &[local(81)]).await;
    until_counted(
        &balancer,
        "lookaside_registrations_ended_total{reason=\"superseded\"} 1",
    )
    .await;
    balancer.stop().await;
}

#[tokio::test]
async fn after_a_restart_of_the_balancer_the_first_list_has_all_backends() {
    let first = balancer(&open_service(LOCAL)).await;
    let addr = first.addr();
    let ports = [81, 82, 83, 84];
    let backends = ports.map(|port| register(addr, port));
    let mut follower = Follower::open(addr, GREETER).await.unwrap();
    until_listed(&mut follower, &ports.map(local)).await;
    first.stop().await;

    let second = Balancer::start_with(&tables(&addr.to_string()), &open_service(LOCAL)).await;
    let mut follower = Follower::open(addr, GREETER).await.unwrap();
    let list = follower.next_list().await.counts();
    let listed: Vec<SocketAddr> = list.keys().copied().collect();
    assert_eq!(listed, ports.map(local));
    drop(backends);
    second.stop().await;
}

#[tokio::test]
async fn what_an_operator_says_by_labels_holds_for_backends_that_register() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let backends = [(81, "v1"), (82, "v2")].map(|(port, version)| {
        Registration::builder(format!("static:{}", balancer.addr()))
            .service(GREETER)
            .port(port)
            .label("version", version)
            .start()
            .unwrap()
    });
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    until_listed(&mut follower, &[local(81), local(82)]).await;
    let listen = balancer.addr().to_string();
    let matched = |says: &str| {
        let rule = format!("match = [{{ labels = {{ version = \"v2\" }}, {says} }}]\n");
        tables(&listen) + &open_service(LOCAL) + &rule
    };
    balancer.edit_whole(&matched("weight = 0.25"));
    let counts = follower.next_list().await.counts();
    assert_eq!((counts[&local(81)], counts[&local(82)]), (4, 1));
    balancer.edit_whole(&matched("drain = true"));
    until_listed(&mut follower, &[local(81)]).await;
    drop(backends);
    balancer.stop().await;
}
