//! Drops, call by call.

use std::time::Duration;

use lookaside_client::Channel;
use tonic::Code;

use crate::harness::{World, drop_entry, entry, hello, patient_hello};

/// What became of one RPC: who answered, or "drop".
async fn outcome(channel: &Channel) -> String {
    match hello(channel).await {
        Ok(name) => name,
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable);
            assert!(status.message().contains("dropped"), "{status}");
            "drop".to_owned()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn drops_come_at_their_place_in_the_list_and_backends_in_turn_between() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, ""), drop_entry("rate")]);
    world.settle().await;
    let mut outcomes = vec![];
    for _ in 0..30 {
        outcomes.push(outcome(&channel).await);
    }
    for (turn, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome == "drop", turn % 3 == 2, "{outcomes:?}");
    }
    for name in ["a", "b"] {
        assert_eq!(outcomes.iter().filter(|o| *o == name).count(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn rpcs_that_wait_for_ready_are_dropped_like_the_others() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, ""), drop_entry("rate")]);
    world.settle().await;
    for turn in 0..10 {
        let outcome = patient_hello(&channel).await;
        assert_eq!(outcome.is_err(), turn % 2 == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_backend_does_not_restart_the_round_of_drops() {
    let mut world = World::new();
    let [mut a, b] = world.backends(["a", "b"]);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, ""), drop_entry("rate")]);
    world.settle().await;
    for turn in 0..60 {
        // In the middle of a round.
        if turn == 10 {
            a.kill();
            world.settle().await;
        }
        if turn == 31 {
            a = world.backend_at("a", a.addr);
            world.pass(30.0).await;
        }
        let outcome = outcome(&channel).await;
        assert_eq!(outcome == "drop", turn % 3 == 2, "turn {turn}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_list_starts_its_round_of_drops_anew_and_the_same_list_does_not() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    let list = [entry(a.addr, ""), entry(a.addr, ""), drop_entry("rate")];
    stream.list(list.clone());
    world.settle().await;
    assert_eq!(outcome(&channel).await, "a");
    stream.list(list);
    world.settle().await;
    assert_eq!(outcome(&channel).await, "a");
    assert_eq!(outcome(&channel).await, "drop");
    assert_eq!(outcome(&channel).await, "a");
    stream.list([entry(a.addr, "new"), drop_entry("rate")]);
    world.settle().await;
    assert_eq!(outcome(&channel).await, "a");
    assert_eq!(outcome(&channel).await, "drop");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_drops_alone_drops_from_the_start_and_later() {
    for first in [true, false] {
        let mut world = World::new();
        let a = world.backend("a");
        let channel = world.follow(&[]);
        let stream = world.balancer.greet().await;
        if !first {
            stream.list([entry(a.addr, "")]);
            world.settle().await;
            assert_eq!(hello(&channel).await.unwrap(), "a");
        }
        stream.list([drop_entry("rate"), drop_entry("load")]);
        world.settle().await;
        for _ in 0..10 {
            let status = patient_hello(&channel).await.unwrap_err();
            assert!(status.message().contains("dropped"), "{status}");
        }
        stream.list([entry(a.addr, "")]);
        world.settle().await;
        assert_eq!(hello(&channel).await.unwrap(), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_ready_backend_nothing_is_dropped_and_nothing_reported_as_such() {
    let mut world = World::new();
    let dead = world.net.address();
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(Duration::from_secs(1)).await;
    stream.list([entry(dead, ""), drop_entry("rate")]);
    world.settle().await;
    for _ in 0..10 {
        let status = hello(&channel).await.unwrap_err();
        assert!(status.message().contains("refused"), "{status}");
    }
    let report = stream.report().await;
    assert_eq!(report.num_calls_started, 0);
    assert_eq!(report.calls_finished_with_drop, []);
}

#[tokio::test(start_paused = true)]
async fn a_bad_entry_keeps_its_turn_among_the_drops() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    let mut bad = entry(a.addr, "");
    bad.ip_address.truncate(3);
    let mut worse = entry(a.addr, "");
    worse.port = -1;
    stream.list([entry(a.addr, ""), bad, worse, drop_entry("rate")]);
    world.settle().await;
    for turn in 0..40 {
        let outcome = outcome(&channel).await;
        assert_eq!(outcome == "drop", turn % 4 == 3, "turn {turn}");
    }
}
