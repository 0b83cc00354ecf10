//! What a check finds, and what comes of it.

use lookaside_tests::{Balancer, Checked, HealthMethods, eventually};
use tonic_health::pb::health_check_response::ServingStatus;

use super::*;

const GRPC: &str = "health = { kind = \"grpc\" }";
/// Fast, but not faster than a busy machine answers.
const FAST: &str = "health = { kind = \"grpc\", interval = \"300ms\", timeout = \"300ms\", unhealthy_threshold = 2 }";

async fn two(methods: HealthMethods) -> (Checked, Checked, [SocketAddr; 2]) {
    let (a, b) = (Checked::start(methods).await, Checked::start(methods).await);
    let addrs = [a.addr(), b.addr()];
    (a, b, addrs)
}

#[tokio::test]
async fn who_is_not_serving_leaves_and_returns_when_it_is() {
    let (a, _b, both) = two(HealthMethods::Both).await;
    let (balancer, mut follower) = with_all_listed(GRPC, &both).await;
    a.set(ServingStatus::NotServing);
    until_listed(&mut follower, &both[1..]).await;
    a.set(ServingStatus::Serving);
    until_listed(&mut follower, &both).await;
    a.set(ServingStatus::ServiceUnknown);
    until_listed(&mut follower, &both[1..]).await;
    assert_eq!(a.watches(), 1);
    balancer.stop().await;
}

#[tokio::test]
async fn without_watch_it_is_checked_again_and_again() {
    let (a, _b, both) = two(HealthMethods::Check).await;
    let (balancer, mut follower) = with_all_listed(FAST, &both).await;
    a.set(ServingStatus::NotServing);
    until_listed(&mut follower, &both[1..]).await;
    a.set(ServingStatus::Serving);
    until_listed(&mut follower, &both).await;
    // Watch was not tried again on this connection.
    assert_eq!((a.watches(), a.accepted()), (1, 1));
    assert!(a.checks() >= 2);
    balancer.stop().await;
}

#[tokio::test]
async fn without_a_health_service_a_backend_is_healthy_while_it_is_connected() {
    let (a, _b, both) = two(HealthMethods::None).await;
    let (balancer, mut follower) = with_all_listed(GRPC, &both).await;
    until_counted(
        &balancer,
        "lookaside_health_checked_backends{probe=\"good\"} 2",
    )
    .await;
    drop(a);
    until_listed(&mut follower, &both[1..]).await;
    let _a = Checked::start_at(both[0], HealthMethods::None);
    until_listed(&mut follower, &both).await;
    balancer.stop().await;
}

#[tokio::test]
async fn who_hangs_is_out_after_the_threshold_and_in_when_it_answers() {
    for methods in [HealthMethods::Both, HealthMethods::Check] {
        let (a, _b, both) = two(methods).await;
        let (balancer, mut follower) = with_all_listed(FAST, &both).await;
        a.hang(true);
        until_listed(&mut follower, &both[1..]).await;
        a.hang(false);
        until_listed(&mut follower, &both).await;
        balancer.stop().await;
    }
}

#[tokio::test]
async fn who_joins_is_listed_after_its_first_good_probe() {
    let (a, b, both) = two(HealthMethods::Both).await;
    b.hang(true);
    let patient = GRPC.replace("}", ", interval = \"60s\", timeout = \"60s\" }");
    let balancer = Balancer::start(&with(&patient, &[a.addr()])).await;
    let mut follower = follow(&balancer).await;
    until_listed(&mut follower, &both[..1]).await;
    balancer.edit(&with(&patient, &both));
    until_state(&balancer, "joining", 1).await;
    eventually("it is asked", || b.watches() > 0).await;
    b.hang(false);
    // Nothing was sent in between.
    assert_eq!(next(&mut follower).await, {
        let mut both = both;
        both.sort();
        both
    });
    balancer.stop().await;
}

#[tokio::test]
async fn a_service_is_never_emptied_because_all_probes_fail() {
    let (a, b, both) = two(HealthMethods::Both).await;
    let (balancer, _follower) = with_all_listed(FAST, &both).await;
    // They answer, but not well.
    a.set(ServingStatus::NotServing);
    b.set(ServingStatus::NotServing);
    until_state(&balancer, "unhealthy", 2).await;
    let mut another = follow(&balancer).await;
    until_listed(&mut another, &both).await;
    // Nobody is there at all.
    drop((a, b));
    let refused = "lookaside_health_checked_backends{probe=\"refused\"} 2";
    until_counted(&balancer, refused).await;
    let mut another = follow(&balancer).await;
    until_listed(&mut another, &both).await;
    balancer.stop().await;
}

#[tokio::test]
async fn health_orca_and_two_services_share_one_connection() {
    let backend = Checked::start(HealthMethods::Both).await;
    let keys = format!("{GRPC}\nload = {{ kind = \"orca\", interval = \"1s\" }}");
    let other = GRPC.replace("}", ", service = \"other\" }");
    let text = [
        named("greeter.test", &keys, &[(backend.addr(), 1.0)]),
        named("teller.test", &keys, &[(backend.addr(), 1.0)]),
        named("third.test", &other, &[(backend.addr(), 1.0)]),
    ];
    let balancer = Balancer::start(&text.concat()).await;
    until_counted(
        &balancer,
        "lookaside_load_reports_total{result=\"taken\"} 4",
    )
    .await;
    let checked = "lookaside_health_checked_backends{probe=\"good\"} 2";
    until_counted(&balancer, checked).await;
    // Two ask the same, the third another thing.
    assert_eq!((backend.accepted(), backend.watches()), (1, 2));
    until_counted(&balancer, "lookaside_backend_connections 1").await;
    let unchecked = ["greeter.test", "teller.test", "third.test"];
    let unchecked = unchecked.map(|name| named(name, "", &[(backend.addr(), 1.0)]));
    balancer.edit(&unchecked.concat());
    until_counted(&balancer, "lookaside_backend_connections 0").await;
    eventually("it is closed", || backend.open() == 0).await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_goaway_costs_no_list() {
    let (a, _b, both) = two(HealthMethods::Both).await;
    let keys = format!("{GRPC}\nload = {{ kind = \"orca\", interval = \"1s\" }}");
    let (balancer, mut follower) = with_all_listed(&keys, &both).await;
    for times in 1..4 {
        eventually("it is asked", || a.watches() == times).await;
        a.goaway();
        eventually("it is asked again", || a.watches() == times + 1).await;
        until_state(&balancer, "serving", 2).await;
    }
    // The list after that of the beginning is the one after this edit.
    balancer.edit(&named(GREETER, &keys, &[(both[0], 3.0), (both[1], 1.0)]));
    let list = follower.next_list().await;
    assert_eq!(list.counts()[&both[0]], 3);
    balancer.stop().await;
}

#[tokio::test]
async fn checks_that_are_taken_away_leave_nothing_behind() {
    let (a, _b, both) = two(HealthMethods::Both).await;
    a.set(ServingStatus::NotServing);
    let balancer = Balancer::start(&with(GRPC, &both)).await;
    let mut follower = follow(&balancer).await;
    until_listed(&mut follower, &both[1..]).await;
    balancer.edit(&with("", &both));
    until_listed(&mut follower, &both).await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_backend_that_was_gone_for_a_moment_is_listed_again() {
    let (_a, _b, both) = two(HealthMethods::Both).await;
    let (balancer, mut follower) = with_all_listed(GRPC, &both).await;
    for _ in 0..3 {
        balancer.edit(&with(GRPC, &both[1..]));
        until_listed(&mut follower, &both[1..]).await;
        balancer.edit(&with(GRPC, &both));
        until_listed(&mut follower, &both).await;
    }
    balancer.stop().await;
}

#[tokio::test]
async fn by_tcp_it_is_enough_to_listen() {
    let tcp = "health = { kind = \"tcp\", interval = \"100ms\", timeout = \"50ms\" }";
    let (a, _b, both) = two(HealthMethods::None).await;
    let (balancer, mut follower) = with_all_listed(tcp, &both).await;
    drop(a);
    until_listed(&mut follower, &both[1..]).await;
    let _a = Checked::start_at(both[0], HealthMethods::None);
    until_listed(&mut follower, &both).await;
    balancer.stop().await;
}
