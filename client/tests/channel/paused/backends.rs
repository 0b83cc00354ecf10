//! What becomes of backends that a list names, no longer names, and names again.

use lookaside_client::ConnectivityState;
use tonic::{Code, Request};

use crate::harness::{World, call, entry, hello, hellos, named, patient_hello, share};

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_listed_again_within_ten_seconds_keeps_its_connection() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    let (both, alone) = ([entry(a.addr, ""), entry(b.addr, "")], [entry(b.addr, "")]);
    let mut connections = 1;
    for away in [9.9, 9.9, 10.1, 9.9, 0.0] {
        stream.list(both.clone());
        world.settle().await;
        assert_eq!(share(&hellos(&channel, 10).await, "a"), 5);
        assert_eq!(a.connections(), connections, "before {away}");
        stream.list(alone.clone());
        world.settle().await;
        assert_eq!(share(&hellos(&channel, 10).await, "b"), 10);
        world.pass(away).await;
        connections += usize::from(away > 10.0);
    }
    assert_eq!(b.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_backend_has_ten_seconds_of_its_own() {
    let mut world = World::new();
    let [a, b, c] = world.backends(["a", "b", "c"]);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, ""), entry(c.addr, "")]);
    world.settle().await;
    stream.list([entry(b.addr, ""), entry(c.addr, "")]);
    world.pass(6.0).await;
    stream.list([entry(c.addr, "")]);
    world.pass(6.0).await;
    // "a" has been away for twelve seconds, "b" for six.
    stream.list([entry(a.addr, ""), entry(b.addr, ""), entry(c.addr, "")]);
    world.settle().await;
    hellos(&channel, 3).await;
    let connections = [&a, &b, &c].map(|backend| backend.connections());
    assert_eq!(connections, [2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_listed_again_in_the_moment_it_expires_is_reached() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    for away in 9_990..10_010 {
        stream.list([entry(a.addr, ""), entry(b.addr, "")]);
        world.settle().await;
        assert_eq!(share(&hellos(&channel, 4).await, "a"), 2);
        stream.list([entry(b.addr, "")]);
        world.pass(f64::from(away) / 1000.0).await;
    }
    assert_eq!(b.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_dies_unlisted_is_not_called_when_it_is_listed_again() {
    let mut world = World::new();
    let [mut a, b] = world.backends(["a", "b"]);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, "")]);
    world.settle().await;
    stream.list([entry(b.addr, "")]);
    world.settle().await;
    a.kill();
    world.settle().await;
    stream.list([entry(a.addr, ""), entry(b.addr, "")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 20).await, "b"), 20);
    let _a = world.backend_at("a", a.addr);
    world.pass(3.0).await;
    assert_eq!(share(&hellos(&channel, 20).await, "a"), 10);
}

#[tokio::test(start_paused = true)]
async fn repetitions_are_weights_in_the_order_of_the_list() {
    let mut world = World::new();
    let backends = world.backends(["0", "1"]);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    for sequence in [[0, 0, 1, 0, 1], [0, 0, 0, 1, 1]] {
        stream.list(sequence.map(|i: usize| entry(backends[i].addr, "")));
        world.settle().await;
        let names = hellos(&channel, 25).await.concat();
        let round: String = sequence.iter().map(ToString::to_string).collect();
        assert!(round.repeat(6).contains(&names), "{names} for {round}");
    }
    assert!(backends.iter().all(|backend| backend.connections() == 1));
}

#[tokio::test(start_paused = true)]
async fn shares_are_among_those_that_are_ready_and_the_others_take_no_rpc() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let slow = world.net.address();
    world.net.silence(slow);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    let list = [
        entry(a.addr, ""),
        entry(slow, ""),
        entry(b.addr, ""),
        entry(a.addr, ""),
    ];
    stream.list(list);
    world.settle().await;
    let names = hellos(&channel, 30).await;
    assert_eq!((share(&names, "a"), share(&names, "b")), (20, 10));
    // The silent one is given up after 20 s, tried again, and answers at last.
    world.net.kill(slow);
    let _slow = world.backend_at("slow", slow);
    world.pass(30.0).await;
    let names = hellos(&channel, 40).await;
    assert_eq!(share(&names, "slow"), 10);
}

#[tokio::test(start_paused = true)]
async fn backends_that_restart_are_used_again_without_a_word_from_the_balancer() {
    let mut world = World::new();
    let [mut a, mut b] = world.backends(["a", "b"]);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, "")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 5);
    a.kill();
    b.kill();
    world.settle().await;
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    world.pass(60.0).await;
    let _back = (world.backend_at("a", a.addr), world.backend_at("b", b.addr));
    world.pass(120.0).await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 5);
    assert!(!world.balancer.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn unreachable_backends_fail_rpcs_also_while_they_are_tried_again() {
    let mut world = World::new();
    let dead = world.net.address();
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(dead, "")]);
    world.settle().await;
    let before = world.now();
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    // The next attempt hangs: it is connecting again, and yet it is failed.
    world.net.silence(dead);
    world.pass(3.0).await;
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(world.now() - before < 3.01, "{}", world.now() - before);
    assert_eq!(channel.state(), ConnectivityState::TransientFailure);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_is_opened_again_without_an_rpc_and_once() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.pass(10.0).await;
    world.net.reset(a.addr);
    world.settle().await;
    assert_eq!(a.connections(), 2);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    // Of RPCs that find it idle, none makes it connect a second time.
    world.net.reset(a.addr);
    for waiting in [patient_hello(&channel), patient_hello(&channel)] {
        assert_eq!(waiting.await.unwrap(), "a");
    }
    assert_eq!(a.connections(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_connections_and_ends_them_is_dialled_once_a_second() {
    let mut world = World::new();
    let a = world.backend("a");
    let _channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    for _ in 0..600 {
        world.net.reset(a.addr);
        world.pass(0.1).await;
    }
    let dials = world.dials(a.addr);
    assert!((50..=75).contains(&dials.len()), "{}", dials.len());
}

#[tokio::test(start_paused = true)]
async fn a_dead_backend_is_dialled_ever_later_and_found_again_when_it_is_back() {
    let mut world = World::new();
    let dead = world.net.address();
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(dead, "")]);
    world.pass(1000.0).await;
    let dials = world.dials(dead);
    let mut wanted = 1.0;
    for pair in dials.windows(2) {
        let delay = pair[1] - pair[0];
        assert!(delay >= wanted * 0.8 - 0.002, "{delay} for {wanted}");
        assert!(delay <= wanted * 1.2 + 0.002, "{delay} for {wanted}");
        wanted = f64::min(wanted * 1.6, 120.0);
    }
    let _back = world.backend_at("back", dead);
    assert_eq!(patient_hello(&channel).await.unwrap(), "back");
    assert!(world.now() < 1125.0, "{}", world.now());
}

#[tokio::test(start_paused = true)]
async fn a_new_token_is_sent_with_the_next_rpc_over_the_same_connection() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    for token in ["one", "two", ""] {
        stream.list([entry(a.addr, token)]);
        world.settle().await;
        hello(&channel).await.unwrap();
        let sent = a.calls().pop().unwrap().lb_token;
        assert_eq!(sent.unwrap_or_default(), token);
    }
    assert_eq!(a.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_callers_own_is_replaced() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    for token in ["theirs", ""] {
        stream.list([entry(a.addr, token)]);
        world.settle().await;
        let mut request = Request::new(named("test"));
        let metadata = request.metadata_mut();
        metadata.insert("lb-token", "forged".parse().unwrap());
        call(&channel, request).await.unwrap();
        let sent = a.calls().pop().unwrap().lb_token;
        assert_eq!(sent.unwrap_or_default(), token);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_fails_rpcs_until_the_next_one_on_the_same_stream() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    for _ in 0..2 {
        stream.list([]);
        world.settle().await;
        let status = hello(&channel).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("no backend"), "{status}");
        // A balancer that lives and knows no backend is not a lost one.
        world.pass(60.0).await;
        hello(&channel).await.unwrap_err();
        assert_eq!(spare.connections(), 0);
        let waiting = tokio::spawn(patient_hello(&channel));
        world.settle().await;
        stream.list([entry(a.addr, "")]);
        assert_eq!(waiting.await.unwrap().unwrap(), "a");
        assert_eq!(hello(&channel).await.unwrap(), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_first_list_rpcs_wait_and_a_message_with_nothing_in_it_is_no_list() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    let waiting = tokio::spawn(hello(&channel));
    stream.empty();
    world.pass(5.0).await;
    assert!(!waiting.is_finished());
    stream.list([entry(a.addr, "")]);
    assert_eq!(waiting.await.unwrap().unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn the_old_list_serves_until_a_backend_of_the_new_one_is_ready() {
    let mut world = World::new();
    let a = world.backend("a");
    let late = world.net.address();
    world.net.silence(late);
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "old")]);
    world.settle().await;
    stream.list([entry(late, "")]);
    for _ in 0..10 {
        world.pass(1.0).await;
        assert_eq!(share(&hellos(&channel, 5).await, "a"), 5);
    }
    world.net.kill(late);
    let _late = world.backend_at("late", late);
    world.pass(30.0).await;
    assert_eq!(share(&hellos(&channel, 10).await, "late"), 10);
}

#[tokio::test(start_paused = true)]
async fn a_backends_status_passes_through_unchanged() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    let status = call(&channel, Request::new(named("fail")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    assert_eq!(status.message(), "as asked");
}

#[tokio::test(start_paused = true)]
async fn backends_see_the_callers_headers_and_the_balancer_does_not() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow_with(&[], |builder| builder.user_agent("shop/1.0"));
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    let mut request = Request::new(named("test"));
    let metadata = request.metadata_mut();
    metadata.insert("authorization", "Bearer secret".parse().unwrap());
    call(&channel, request).await.unwrap();
    let seen = a.calls().pop().unwrap();
    assert_eq!(seen.authorization.as_deref(), Some("Bearer secret"));
    assert_eq!(seen.authority, "greeter.test:50051");
    assert!(seen.user_agent.starts_with("shop/1.0 grpc-rust-lookaside/"));
    assert_eq!(stream.header("authorization"), None);
    assert_eq!(stream.authority, "lb.test");
}
