//! When the fallback addresses are used, to the millisecond.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tonic::{Code, Status};

use crate::harness::{World, entry, hello, hellos, share};

#[tokio::test(start_paused = true)]
async fn a_balancer_without_a_list_means_fallback_after_ten_seconds_until_its_list() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    // The handshake does not stop the timer.
    let stream = world.balancer.greet().await;
    assert_eq!(hello(&channel).await.unwrap(), "spare");
    assert!((10.0..10.01).contains(&world.now()), "{}", world.now());
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 20).await, "a"), 20);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_timeout_of_ones_own_is_kept() {
    let mut world = World::new();
    let spare = world.backend("spare");
    let timeout = Duration::from_millis(12_345);
    let channel = world.follow_with(&[&spare], |builder| builder.fallback_timeout(timeout));
    let _stream = world.balancer.accept().await;
    assert_eq!(hello(&channel).await.unwrap(), "spare");
    assert!((12.345..12.355).contains(&world.now()), "{}", world.now());
}

#[tokio::test(start_paused = true)]
async fn the_longest_duration_means_never() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow_with(&[&spare], |builder| {
        let builder = builder.fallback_timeout(Duration::MAX);
        builder.idle_timeout(Duration::MAX)
    });
    let stream = world.balancer.greet().await;
    let call = tokio::spawn(hello(&channel));
    world.pass(3600.0).await;
    assert!(!call.is_finished());
    stream.list([entry(a.addr, "")]);
    assert_eq!(call.await.unwrap().unwrap(), "a");
    world.pass(7200.0).await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
    assert_eq!(spare.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_list_in_time_disarms_the_timer() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    world.pass(9.9).await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
    world.pass(60.0).await;
    assert_eq!(share(&hellos(&channel, 20).await, "a"), 20);
    assert_eq!(spare.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_dead_backends_disarms_the_timer_too() {
    let mut world = World::new();
    let spare = world.backend("spare");
    let dead = world.net.address();
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.list([entry(dead, "")]);
    world.pass(60.0).await;
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(spare.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_first_stream_that_ends_means_fallback_before_the_timer() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.accept().await;
    world.pass(3.0).await;
    stream.fail(Status::unavailable("overloaded"));
    assert_eq!(hello(&channel).await.unwrap(), "spare");
    assert!((3.0..3.01).contains(&world.now()), "{}", world.now());
    // The list of a later stream ends it.
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_cannot_be_reached_means_fallback_at_once() {
    let mut world = World::new();
    let spare = world.backend("spare");
    world.balancer.kill();
    let channel = world.follow(&[&spare]);
    assert_eq!(hello(&channel).await.unwrap(), "spare");
    assert!(world.now() < 0.01, "{}", world.now());
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_accepts_and_says_nothing_means_fallback_after_ten_seconds() {
    let mut world = World::new();
    let spare = world.backend("spare");
    world.balancer.kill();
    world.net.silence(world.balancer.addr);
    let channel = world.follow(&[&spare]);
    assert_eq!(hello(&channel).await.unwrap(), "spare");
    assert!((10.0..10.01).contains(&world.now()), "{}", world.now());
}

#[tokio::test(start_paused = true)]
async fn a_lost_balancer_alone_means_no_fallback() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    world.balancer.kill();
    for _ in 0..10 {
        world.pass(60.0).await;
        assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    }
    assert_eq!(spare.connections(), 0);
    assert_eq!(a.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn lost_backends_alone_mean_no_fallback() {
    let mut world = World::new();
    let [mut a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    a.kill();
    for _ in 0..10 {
        world.pass(60.0).await;
        let status = hello(&channel).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    }
    assert_eq!(spare.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_balancer_lost_and_then_the_backends_means_fallback_until_a_list() {
    let mut world = World::new();
    let [mut a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "same")]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
    world.balancer.kill();
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    a.kill();
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "spare"), 10);
    // A backend that is back is not used before a balancer names it.
    let a = world.backend_at("a", a.addr);
    world.pass(300.0).await;
    assert_eq!(share(&hellos(&channel, 10).await, "spare"), 10);
    world.restart_balancer();
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "same")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
}

#[tokio::test(start_paused = true)]
async fn the_backends_lost_and_then_the_balancer_means_fallback_until_a_list() {
    let mut world = World::new();
    let [mut a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "same")]);
    world.settle().await;
    a.kill();
    world.settle().await;
    hello(&channel).await.unwrap_err();
    world.balancer.kill();
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "spare"), 10);
    let a = world.backend_at("a", a.addr);
    world.pass(300.0).await;
    assert_eq!(share(&hellos(&channel, 10).await, "spare"), 10);
    world.restart_balancer();
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "same")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_back_without_a_list_does_not_keep_fallback_away() {
    let mut world = World::new();
    let [mut a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    drop(stream);
    let _stream = world.balancer.greet().await;
    a.kill();
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "spare");
}

#[tokio::test(start_paused = true)]
async fn all_lost_and_no_fallback_address_says_so_with_both_reasons() {
    let mut world = World::new();
    let mut a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    stream.fail(Status::unauthenticated("no such client"));
    a.kill();
    world.settle().await;
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let text = status.message();
    assert!(text.contains("no such client"), "{text}");
    assert!(text.contains(&a.addr.to_string()), "{text}");
    assert!(text.contains("refused"), "{text}");
    // And when it is back it is used: nothing better is known.
    let _a = world.backend_at("a", a.addr);
    world.pass(120.0).await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn fallback_response_before_the_first_list_is_obeyed_at_once() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.fallback();
    assert_eq!(hello(&channel).await.unwrap(), "spare");
    assert!(world.now() < 0.01, "{}", world.now());
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
}

#[tokio::test(start_paused = true)]
async fn fallback_response_after_a_list_is_obeyed_though_the_backends_are_well() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
    stream.fallback();
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "spare"), 10);
    // RPCs to fallback addresses carry no token of a list gone by.
    assert!(spare.calls().iter().all(|call| call.lb_token.is_none()));
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    assert_eq!(a.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn new_fallback_addresses_are_used_while_in_fallback() {
    let mut world = World::new();
    let [spare, other] = world.backends(["spare", "other"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.fallback();
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "spare");
    world.names.balancers(&[world.balancer.addr], &[other.addr]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "other"), 10);
}

#[tokio::test(start_paused = true)]
async fn fallback_addresses_that_vanish_fail_rpcs_with_the_balancers_error() {
    let mut world = World::new();
    let spare = world.backend("spare");
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.accept().await;
    stream.fail(Status::permission_denied("not you"));
    assert_eq!(hello(&channel).await.unwrap(), "spare");
    world.names.balancers(&[world.balancer.addr], &[]);
    world.settle().await;
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let text = status.message();
    assert!(text.contains("no fallback address"), "{text}");
    assert!(text.contains("not you"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_is_no_reason_to_leave_fallback() {
    let mut world = World::new();
    let spare = world.backend("spare");
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.fallback();
    world.settle().await;
    stream.list([]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "spare"), 10);
}

#[tokio::test(start_paused = true)]
async fn new_fallback_addresses_do_not_touch_a_list_that_serves() {
    let mut world = World::new();
    let [a, spare, other] = world.backends(["a", "spare", "other"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    for fallback in [vec![other.addr], vec![], vec![spare.addr, other.addr]] {
        world.names.balancers(&[world.balancer.addr], &fallback);
        world.pass(30.0).await;
        assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    }
    assert_eq!((spare.connections(), other.connections()), (0, 0));
    assert!(!world.balancer.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn why_a_fallback_address_cannot_be_used_reaches_the_rpc() {
    let mut world = World::new();
    let spare = world.net.address();
    let (incoming, mut place) = world.net.listen(spare);
    // It is no HTTP/2 server.
    place.spawn(incoming.for_each(|end| async {
        let text = b"SSH-2.0-OpenSSH_9.9 this is not HTTP/2\r\n";
        let _ = end.unwrap().write_all(text).await;
    }));
    world.names.balancers(&[world.balancer.addr], &[spare]);
    let channel = world.channel_with(|builder| builder);
    let stream = world.balancer.greet().await;
    stream.fallback();
    world.settle().await;
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let text = status.message();
    assert!(text.contains(&spare.to_string()), "{text}");
    assert!(text.contains("fallback"), "{text}");
    assert!(text.contains("does not speak HTTP/2"), "{text}");
    assert!(text.contains("SSH-"), "{text}");
    // Nobody is there.
    let nobody = world.net.address();
    world.names.balancers(&[world.balancer.addr], &[nobody]);
    world.settle().await;
    let status = hello(&channel).await.unwrap_err();
    let text = status.message();
    assert!(text.contains(&nobody.to_string()), "{text}");
    assert!(text.contains("connection refused"), "{text}");
}
