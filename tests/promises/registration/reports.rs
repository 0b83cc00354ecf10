//! What backends report, and how much at once.

use lookaside_backend::{Load, Registration, Utilization};
use lookaside_proto::orca_v3::OrcaLoadReport;
use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::register_request::Message;
use lookaside_proto::registration_v1::registration::Where;
use lookaside_tests::{Backends, Balancer, Follower, PATIENCE, soon};
use tonic::Code;

use super::*;

#[tokio::test]
async fn reports_are_passed_on_and_nonsense_is_counted() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let channel = channel(balancer.addr()).await;
    let mut stream = Raw::open(&channel, said(Where::Port(81), "a"), "")
        .await
        .unwrap();
    stream.registered().await;
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    until_listed(&mut follower, &[local(81)]).await;
    let good = OrcaLoadReport {
        cpu_utilization: 0.5,
        rps_fractional: 10.0,
        ..OrcaLoadReport::default()
    };
    stream.load(good.clone()).await;
    let taken = "lookaside_registration_reports_total{result=\"taken\"} 1";
    until_counted(&balancer, taken).await;
    for (utilization, result) in [
        (f64::NAN, "not_finite"),
        (f64::INFINITY, "not_finite"),
        (-1.0, "negative"),
        (1e9, "absurd"),
        (0.0, "no_load"),
    ] {
        let bad = OrcaLoadReport {
            cpu_utilization: utilization,
            ..good.clone()
        };
        stream.load(bad).await;
        let count = if utilization == f64::INFINITY { 2 } else { 1 };
        let line = format!("lookaside_registration_reports_total{{result=\"{result}\"}} {count}");
        until_counted(&balancer, &line).await;
    }
    balancer.stop().await;
}

#[tokio::test]
async fn one_that_floods_gets_no_further_and_the_others_do() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let flooding = channel(balancer.addr()).await;
    let mut flood = Raw::open(&flooding, said(Where::Port(81), "a"), "")
        .await
        .unwrap();
    flood.registered().await;
    let requests = flood.requests.clone();
    let flooding = tokio::spawn(async move {
        loop {
            let report = pb::LoadReport {
                load: Some(OrcaLoadReport {
                    cpu_utilization: 0.01,
                    named_metrics: (0..100).map(|i| (i.to_string(), 1.0)).collect(),
                    ..OrcaLoadReport::default()
                }),
                window: None,
            };
            send(&requests, Message::Load(report)).await;
        }
    });
    let other = register(balancer.addr(), 82);
    soon("registration", other.registered()).await.unwrap();
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    until_listed(&mut follower, &[local(81), local(82)]).await;
    soon("the drain", other.drain()).await;
    until_listed(&mut follower, &[local(81)]).await;
    flooding.abort();
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_registrations_at_once_are_one_list() {
    const CONNECTIONS: usize = 100;
    const STREAMS: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "secret").unwrap();
    let register = format!(
        "{{ token_file = \"{}\", any_address = true }}",
        tokens.display()
    );
    // An hour's lease: it is not about leases.
    let tables = tables("127.0.0.1:0").replace("\"1s\"", "\"20m\"");
    let balancer = Balancer::start_with(&tables, &open_service(&register)).await;
    let mut openers = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let balancer = balancer.addr();
        openers.spawn(async move {
            let channel = channel(balancer).await;
            let mut streams = Vec::new();
            for stream in 0..STREAMS {
                let address = format!("10.1.{connection}.{stream}:80");
                // All together have their time, below.
                let opened = Raw::opened(&channel, said(at(&address), "a"), "secret").await;
                streams.push(opened.unwrap());
            }
            streams
        });
    }
    let streams = tokio::time::timeout(PATIENCE * 4, openers.join_all()).await;
    let streams: Vec<Raw> = streams.unwrap().into_iter().flatten().collect();
    assert_eq!(streams.len(), CONNECTIONS * STREAMS);

    // One more is one too many.
    let channel = channel(balancer.addr()).await;
    let full = Raw::open(&channel, said(at("10.2.0.0:80"), "a"), "secret").await;
    assert_eq!(full.err().unwrap().code(), Code::ResourceExhausted);

    let all = format!("lookaside_backends{{service=\"{GREETER}\",state=\"serving\"}} 10000");
    until_counted(&balancer, &all).await;
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    let counts = follower.next_list().await.counts();
    let most = counts.values().max().unwrap();
    assert!(*most <= 1, "{most} entries of one backend");
    drop(streams);
    balancer.stop().await;
}

#[tokio::test]
async fn the_load_that_a_backend_counts_arrives() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let backends = Backends::start(1).await;
    let load = Load::new(Utilization::Set);
    load.set_utilization(0.5);
    let _registration = Registration::builder(format!("static:{}", balancer.addr()))
        .service(GREETER)
        .port(backends.addr(0).port())
        .load(&load)
        .start()
        .unwrap();
    // Those before the service has opened are of nobody yet.
    until_counted(
        &balancer,
        "lookaside_registration_reports_total{result=\"taken\"} 2",
    )
    .await;
    balancer.stop().await;
}
