//! What streams are sent when an operator edits the file.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_tests::{Balancer, Follower, service};
use tonic::Code;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn three(weights: [f64; 3]) -> Vec<(SocketAddr, f64)> {
    let addrs = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(addr);
    addrs.into_iter().zip(weights).collect()
}

fn counts(pairs: &[(&str, usize)]) -> BTreeMap<SocketAddr, usize> {
    pairs.iter().map(|(a, n)| (addr(a), *n)).collect()
}

#[tokio::test]
async fn weights_5_3_1_are_nine_entries_in_the_first_list() {
    let balancer = Balancer::start(&service("greeter.test", &three([5.0, 3.0, 1.0]))).await;
    let mut follower = Follower::open(balancer.addr(), "greeter.test:443")
        .await
        .unwrap();
    let interval = follower.initial.client_stats_report_interval.unwrap();
    assert_eq!((interval.seconds, interval.nanos), (5, 0));
    let list = follower.next_list().await;
    let wanted = [("10.0.0.1:80", 5), ("10.0.0.2:80", 3), ("10.0.0.3:80", 1)];
    assert_eq!(list.counts(), counts(&wanted));
    balancer.stop().await;
}

#[tokio::test]
async fn an_edited_weight_reaches_every_stream() {
    let balancer = Balancer::start(&service("greeter.test", &three([1.0, 1.0, 1.0]))).await;
    let mut followers = Vec::new();
    for _ in 0..8 {
        let mut follower = Follower::open(balancer.addr(), "greeter.test")
            .await
            .unwrap();
        assert_eq!(follower.next_list().await.0.len(), 3);
        followers.push(follower);
    }
    balancer.edit(&service("greeter.test", &three([3.0, 1.0, 1.0])));
    for follower in &mut followers {
        let list = follower.next_list().await;
        let wanted = [("10.0.0.1:80", 3), ("10.0.0.2:80", 1), ("10.0.0.3:80", 1)];
        assert_eq!(list.counts(), counts(&wanted));
    }
    balancer.stop().await;
}

#[tokio::test]
async fn a_bad_edit_changes_nothing_and_the_next_good_one_is_followed() {
    let balancer = Balancer::start(&service("greeter.test", &three([1.0, 1.0, 1.0]))).await;
    let mut follower = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    follower.next_list().await;
    // Each is seen to be refused before the next: it was read, and the balancer lives.
    let bad = [
        "[[service]\nname = ".to_owned(),
        service("greeter.test", &three([-1.0, 2.0, 2.0])),
        service("greeter.test", &[]),
        String::new(),
        service("dns:///greeter.test", &three([2.0, 2.0, 2.0])),
    ];
    for (count, bad) in bad.iter().enumerate() {
        balancer.edit(bad);
        balancer.reloads("refused", count + 1).await;
        balancer.metric("config_last_reload_successful", "0").await;
    }
    // Were any of them applied, its list would come before the good one's.
    balancer.edit(&service("greeter.test", &three([1.0, 0.0, 1.0])));
    balancer.reloads("applied", 1).await;
    balancer.metric("config_last_reload_successful", "1").await;
    let list = follower.next_list().await;
    let wanted = [("10.0.0.1:80", 1), ("10.0.0.3:80", 1)];
    assert_eq!(list.counts(), counts(&wanted));
    balancer.stop().await;
}

#[tokio::test]
async fn a_fully_drained_service_falls_back_and_comes_back() {
    let balancer = Balancer::start(&service("greeter.test", &three([1.0, 1.0, 1.0]))).await;
    let mut follower = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    follower.next_list().await;
    balancer.edit(&service("greeter.test", &three([0.0, 0.0, 0.0])));
    let told = follower.next().await.unwrap();
    assert!(matches!(told, LoadBalanceResponseType::FallbackResponse(_)));
    balancer.edit(&service("greeter.test", &three([0.0, 1.0, 0.0])));
    let list = follower.next_list().await;
    assert_eq!(list.counts(), counts(&[("10.0.0.2:80", 1)]));
    balancer.stop().await;
}

#[tokio::test]
async fn every_streams_first_list_differs_from_the_one_before() {
    let balancer = Balancer::start(&service("greeter.test", &three([1.0, 0.0, 0.0]))).await;
    let mut firsts = Vec::new();
    for _ in 0..3 {
        let mut follower = Follower::open(balancer.addr(), "greeter.test")
            .await
            .unwrap();
        let list = follower.next_list().await;
        assert_eq!(list.0.len(), 1);
        assert!(!firsts.contains(&list), "{list:?}");
        firsts.push(list);
    }
    balancer.stop().await;
}

#[tokio::test]
async fn a_removed_service_ends_its_streams_and_refuses_them_before_the_handshake() {
    let both = |other: &str| {
        let greeter = service("greeter.test", &three([1.0, 1.0, 1.0]));
        format!("{greeter}{other}")
    };
    let other = service("other.test", &three([1.0, 1.0, 1.0]));
    let balancer = Balancer::start(&both(&other)).await;
    let mut removed = Follower::open(balancer.addr(), "other.test").await.unwrap();
    let mut kept = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    removed.next_list().await;
    kept.next_list().await;

    balancer.edit(&both(""));
    let end = removed.next().await.unwrap_err();
    assert_eq!(end.code(), Code::NotFound, "{end}");
    let refused = Follower::open(balancer.addr(), "other.test").await;
    let refused = refused.err().expect("refused");
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("other.test"), "{refused}");

    balancer.edit(&service("greeter.test", &three([2.0, 1.0, 1.0])));
    assert_eq!(kept.next_list().await.0.len(), 4);
    balancer.stop().await;
}

#[tokio::test]
async fn drops_are_a_share_of_the_list() {
    let text = service("greeter.test", &three([3.0, 1.0, 0.0]));
    let text = text.replace("backends", "drop = { maintenance = 0.2 }\nbackends");
    let balancer = Balancer::start(&text).await;
    let mut follower = Follower::open(balancer.addr(), "greeter.test")
        .await
        .unwrap();
    let list = follower.next_list().await;
    let drops: Vec<_> = list.0.iter().filter(|server| server.drop).collect();
    assert_eq!((list.0.len(), drops.len()), (5, 1));
    // If it is the last of the list, a nonce follows.
    let category = drops[0].load_balance_token.split('~').next();
    assert_eq!(category, Some("maintenance"));
    balancer.stop().await;
}
