//! Backends that answer, but not as they should.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lookaside_tests::{Balancer, Checked, HealthMethods};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic_health::pb::health_check_response::ServingStatus;

use super::*;

const FAST: &str = "health = { kind = \"grpc\", interval = \"100ms\", timeout = \"100ms\", unhealthy_threshold = 2 }";

#[tokio::test]
async fn a_status_that_does_not_exist_is_not_serving() {
    let (a, b) = (
        Checked::start(HealthMethods::Both).await,
        Checked::start(HealthMethods::Both).await,
    );
    let both = [a.addr(), b.addr()];
    let (balancer, mut follower) = with_all_listed(FAST, &both).await;
    a.set_number(99);
    until_listed(&mut follower, &both[1..]).await;
    balancer.stop().await;
}

#[tokio::test]
async fn whoever_speaks_no_http2_is_out_after_the_threshold() {
    let good = Checked::start(HealthMethods::Both).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bad = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(&[0xff; 4096]).await;
        }
    });
    let (balancer, mut follower) = with_all_listed(FAST, &[good.addr(), bad]).await;
    until_listed(&mut follower, &[good.addr()]).await;
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_floods_with_statuses_gets_no_further_and_the_others_do() {
    let flooding = Arc::new(Checked::start(HealthMethods::Both).await);
    let good = Checked::start(HealthMethods::Both).await;
    let both = [flooding.addr(), good.addr()];
    let other = named("other.test", FAST, &[(good.addr(), 1.0)]);
    let text = format!("{}{other}", with(FAST, &both));
    let balancer = Balancer::start(&text).await;
    let mut follower = Follower::open(balancer.addr(), "other.test").await.unwrap();
    assert_eq!(next(&mut follower).await, [good.addr()]);
    let ended = Arc::new(AtomicBool::new(false));
    let flood = {
        let (flooding, ended) = (Arc::clone(&flooding), Arc::clone(&ended));
        tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                flooding.set(ServingStatus::NotServing);
                tokio::task::yield_now().await;
                flooding.set(ServingStatus::Serving);
                tokio::task::yield_now().await;
            }
        })
    };
    for _ in 0..3 {
        good.set(ServingStatus::NotServing);
        // It is the only one, and stays.
        let bad = "lookaside_backends{service=\"other.test\",state=\"unhealthy\"} 1";
        until_counted(&balancer, bad).await;
        good.set(ServingStatus::Serving);
        let well = "lookaside_backends{service=\"other.test\",state=\"serving\"} 1";
        until_counted(&balancer, well).await;
    }
    ended.store(true, Ordering::Relaxed);
    flood.await.unwrap();
    balancer.stop().await;
}
