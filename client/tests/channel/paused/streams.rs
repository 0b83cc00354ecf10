//! When streams to the balancer are opened: backoff, floor and pings.

use std::time::Duration;

use futures_util::StreamExt as _;
use tonic::{Request, Status};

use crate::harness::{World, call, entry, hello, hellos, named, share, within};

/// Asserts that `delay` is `wanted` seconds, 20 % more or less.
#[track_caller]
fn about(delay: f64, wanted: f64) {
    // A millisecond each for the clock's ticks.
    let range = wanted * 0.8 - 0.002..wanted * 1.2 + 0.002;
    assert!(range.contains(&delay), "{delay} for {wanted}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_refused_before_the_handshake_is_retried_ever_later() {
    let mut world = World::new();
    let _channel = world.follow(&[]);
    let mut wanted = 1.0;
    let mut last = None;
    for _ in 0..20 {
        let stream = world.balancer.accept().await;
        if let Some(last) = last.replace(world.now()) {
            let delay = world.now() - last;
            about(delay, wanted);
            assert!(delay <= 120.01, "{delay}");
            wanted = f64::min(wanted * 1.6, 120.0);
        }
        stream.fail(Status::unavailable("overloaded"));
    }
    // All of them over the connection that there is.
    assert_eq!(world.balancer.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_cannot_be_reached_is_dialled_ever_later() {
    let mut world = World::new();
    world.balancer.kill();
    let _channel = world.follow(&[]);
    world.pass(1000.0).await;
    let dials = world.dials(world.balancer.addr);
    let mut wanted = 1.0;
    for pair in dials.windows(2) {
        about(pair[1] - pair[0], wanted);
        wanted = f64::min(wanted * 1.6, 120.0);
    }
    assert!((14..=20).contains(&dials.len()), "{}", dials.len());
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_refused_stream_took_counts_towards_its_backoff() {
    let mut world = World::new();
    let _channel = world.follow(&[]);
    let stream = world.balancer.accept().await;
    let opened = world.now();
    world.pass(0.7).await;
    stream.fail(Status::unavailable("overloaded"));
    let stream = world.balancer.accept().await;
    about(world.now() - opened, 1.0);
    // One that took longer than its backoff is retried at once.
    world.pass(30.0).await;
    let ended = world.now();
    stream.fail(Status::unavailable("overloaded"));
    world.balancer.accept().await;
    assert!(world.now() - ended < 0.01, "{}", world.now() - ended);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_ends_the_backoff() {
    let mut world = World::new();
    let _channel = world.follow(&[]);
    for _ in 0..8 {
        let stream = world.balancer.accept().await;
        stream.fail(Status::unavailable("overloaded"));
    }
    drop(world.balancer.greet().await);
    let greeted = world.now();
    let stream = world.balancer.accept().await;
    about(world.now() - greeted, 1.0);
    let refused = world.now();
    stream.fail(Status::unavailable("overloaded"));
    world.balancer.accept().await;
    about(world.now() - refused, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_ends_every_stream_after_its_list_is_asked_once_a_second() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let mut last = None;
    for _ in 0..30 {
        let stream = world.balancer.greet().await;
        if let Some(last) = last.replace(world.now()) {
            about(world.now() - last, 1.0);
        }
        stream.list([entry(a.addr, "")]);
        world.settle().await;
        drop(stream);
        assert_eq!(share(&hellos(&channel, 5).await, "a"), 5);
    }
    assert_eq!((a.connections(), world.balancer.connections()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_lasted_is_opened_again_within_a_quarter_of_a_second() {
    let mut world = World::new();
    let a = world.backend("a");
    let _channel = world.follow(&[]);
    for end in ["ok", "status"] {
        let stream = world.balancer.greet().await;
        stream.list([entry(a.addr, "")]);
        world.pass(100.0).await;
        let ended = world.now();
        match end {
            "ok" => drop(stream),
            _ => stream.fail(Status::not_found("no such service")),
        }
        let _stream = world.balancer.accept().await;
        let delay = world.now() - ended;
        assert!(delay <= 0.252, "{delay}");
        world.pass(10.0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_stays_open_for_days() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.pass(2.0 * 24.0 * 3600.0).await;
    assert!(!world.balancer.is_wanted());
    assert_eq!(world.balancer.connections(), 1);
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_balancer_behind_a_cut_wire_is_noticed_by_pings() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.pass(100.0).await;
    let before = world.dials(world.balancer.addr).len();
    world.net.cut(world.balancer.addr);
    // A ping within 20 s, and 10 s for its answer.
    world.pass(31.0).await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    world.pass(2.0).await;
    assert!(world.dials(world.balancer.addr).len() > before);
    // The attempt under way when the wire is mended is given up after 20 s.
    world.net.mend(world.balancer.addr);
    let ended = world.now();
    let _stream = world.balancer.greet().await;
    assert!(world.now() - ended <= 22.0, "{}", world.now() - ended);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_no_first_message_leaves_the_stream_open() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let mut stream = world.balancer.accept().await;
    stream.name().await;
    stream.empty();
    stream.initial(Duration::ZERO);
    stream.empty();
    world.pass(5.0).await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
    assert!(!world.balancer.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn an_rpc_that_ends_early_does_not_touch_the_stream() {
    let mut world = World::new();
    let a = world.backend("a");
    a.hold(true);
    let channel = world.follow(&[]);
    // The RPC that is there when the stream is opened, with a deadline and with
    // headers of its own.
    let mut request = Request::new(named("test"));
    request.set_timeout(Duration::from_secs(1));
    request
        .metadata_mut()
        .insert("authorization", "Bearer secret".parse().unwrap());
    let late = tokio::spawn(call(&channel, request));
    let mut stream = world.balancer.greet().await;
    assert_eq!(stream.header("authorization"), None);
    assert_eq!(stream.header("grpc-timeout"), None);
    stream.list([entry(a.addr, "")]);
    let status = late.await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    // And one whose caller loses interest.
    let dropped = tokio::spawn(hello(&channel));
    world.settle().await;
    dropped.abort();
    world.pass(60.0).await;
    assert!(!world.balancer.is_wanted());
    a.hold(false);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    drop(channel);
    assert!(stream.next_request().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_dropped_before_a_list_opens_no_other_stream() {
    for child in ["round_robin", "pick_first"] {
        let mut world = World::new();
        let channel = world.channel_with(|builder| builder);
        let config = format!(r#"{{"grpclb": {{"childPolicy": [{{"{child}": {{}}}}]}}}}"#);
        world.configure(&config, &[]);
        let mut stream = world.balancer.greet().await;
        drop(channel);
        assert!(stream.next_request().await.is_none());
        world.pass(300.0).await;
        assert!(!world.balancer.is_wanted());
        assert_eq!(world.dials(world.balancer.addr).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_dropped_cancels_its_stream_and_does_not_half_close_it() {
    let mut world = World::new();
    // tonic does not tell the two apart; HTTP/2 does.
    let (mut incoming, mut place) = world.net.listen(world.balancer.addr);
    let channel = world.follow(&[]);
    let end = within("a connection", incoming.next()).await.unwrap();
    let handshake = h2::server::handshake(end.unwrap());
    let mut connection = within("HTTP/2", handshake).await.unwrap();
    let accepted = within("a stream", connection.accept()).await.unwrap();
    let (request, _respond) = accepted.unwrap();
    place.spawn(async move { while connection.accept().await.is_some() {} });
    let mut body = request.into_body();
    let initial = within("the initial request", body.data()).await;
    assert!(!initial.unwrap().unwrap().is_empty());
    drop(channel);
    match within("the end of the stream", body.data()).await {
        Some(Err(error)) => assert_eq!(error.reason(), Some(h2::Reason::CANCEL)),
        other => panic!("{other:?} is no cancellation"),
    }
}
