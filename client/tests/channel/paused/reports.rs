//! Reports to the balancer: when they come, and that they add up exactly.

use std::time::Duration;

use lookaside_client::Channel;
use lookaside_proto::lb_v1::ClientStats;
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{
    Balancer, BalancerStream, World, call, drop_entry, entry, hello, hellos, named, within,
};

const SECOND: Duration = Duration::from_secs(1);

/// Started, finished, failed to send, known received, and drops by token.
fn counts(report: &ClientStats) -> (i64, i64, i64, i64, Vec<(&str, i64)>) {
    let drops = report.calls_finished_with_drop.iter();
    (
        report.num_calls_started,
        report.num_calls_finished,
        report.num_calls_finished_with_client_failed_to_send,
        report.num_calls_finished_known_received,
        drops
            .map(|drop| (drop.load_balance_token.as_str(), drop.num_calls))
            .collect(),
    )
}

/// Whether the client says something within `seconds`.
async fn speaks(world: &World, stream: &mut BalancerStream, seconds: f64) -> bool {
    tokio::select! {
        biased;
        _ = stream.next_request() => true,
        () = world.pass(seconds) => false,
    }
}

#[tokio::test(start_paused = true)]
async fn reports_come_at_the_interval_the_balancer_asked_for() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(Duration::from_secs(5)).await;
    let greeted = world.now();
    stream.list([entry(a.addr, "")]);
    for report in 1..=10 {
        hellos(&channel, report).await;
        let counted = stream.report().await;
        let (report, at) = (report as i64, world.now() - greeted);
        assert!((at - 5.0 * report as f64).abs() < 0.05, "{at}");
        assert_eq!(counts(&counted), (report, report, 0, report, vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_handshake_changes_nothing() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    let greeted = world.now();
    stream.initial(Duration::from_secs(60));
    stream.list([entry(a.addr, "")]);
    hello(&channel).await.unwrap();
    for second in 1..=2 {
        stream.report().await;
        let at = world.now() - greeted;
        assert!((at - f64::from(second)).abs() < 0.05, "{at}");
    }
    assert!(!world.balancer.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn an_interval_that_is_too_short_is_a_tenth_of_a_second() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(Duration::from_nanos(1)).await;
    stream.list([entry(a.addr, "")]);
    let start = world.now();
    for _ in 0..10 {
        hello(&channel).await.unwrap();
        stream.report().await;
    }
    let took = world.now() - start;
    assert!((0.99..1.1).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn no_interval_and_a_negative_one_mean_no_report() {
    for seconds in [None, Some(0), Some(-5)] {
        let mut world = World::new();
        let a = world.backend("a");
        let channel = world.follow(&[]);
        let mut stream = world.balancer.accept().await;
        stream.name().await;
        stream.initial_seconds(seconds);
        stream.list([entry(a.addr, "")]);
        world.settle().await;
        hellos(&channel, 5).await;
        assert!(!speaks(&world, &mut stream, 600.0).await, "{seconds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_told_not_to_report_does_not_and_still_sends_tokens() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow_with(&[], |builder| builder.report_stats(false));
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.list([entry(a.addr, "token")]);
    world.settle().await;
    hellos(&channel, 5).await;
    let tokens = a.calls().into_iter().map(|call| call.lb_token);
    assert!(
        tokens
            .into_iter()
            .all(|token| token.as_deref() == Some("token"))
    );
    assert!(!speaks(&world, &mut stream, 600.0).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_idle_says_so_once_and_is_quiet_until_a_call() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.list([entry(a.addr, "")]);
    for _ in 0..3 {
        assert_eq!(counts(&stream.report().await), (0, 0, 0, 0, vec![]));
        assert!(!speaks(&world, &mut stream, 300.5).await);
        hello(&channel).await.unwrap();
        assert_eq!(counts(&stream.report().await), (1, 1, 0, 1, vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_started_when_they_are_picked_and_finished_when_they_end() {
    let mut world = World::new();
    let a = world.backend("a");
    a.hold(true);
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.list([entry(a.addr, "")]);
    let calls: Vec<_> = (0..3).map(|_| tokio::spawn(hello(&channel))).collect();
    assert_eq!(counts(&stream.report().await), (3, 0, 0, 0, vec![]));
    a.hold(false);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    // One that is given up has left, and has no answer.
    a.hold(true);
    let given_up = tokio::spawn(hello(&channel));
    world.settle().await;
    given_up.abort();
    assert_eq!(counts(&stream.report().await), (1, 4, 0, 3, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_at_the_backend_is_known_to_be_received() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.list([entry(a.addr, "")]);
    let failed = call(&channel, tonic::Request::new(named("fail"))).await;
    assert_eq!(failed.unwrap_err().code(), tonic::Code::DataLoss);
    assert_eq!(counts(&stream.report().await), (1, 1, 0, 1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_call_lost_on_its_way_is_finished_and_not_known_to_be_received() {
    let mut world = World::new();
    let mut a = world.backend("a");
    a.hold(true);
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.list([entry(a.addr, "")]);
    let lost = tokio::spawn(hello(&channel));
    world.settle().await;
    a.kill();
    let status = lost.await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(counts(&stream.report().await), (1, 1, 0, 0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_could_not_be_sent_is_counted_so_and_sent_elsewhere() {
    let mut world = World::new();
    let [mut a, b] = world.backends(["a", "b"]);
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.list([entry(a.addr, ""), entry(b.addr, "")]);
    world.settle().await;
    // It is the turn of "a".
    let calls = if hello(&channel).await.unwrap() == "a" {
        assert_eq!(hello(&channel).await.unwrap(), "b");
        2
    } else {
        1
    };
    a.kill();
    // Nobody has noticed yet.
    assert_eq!(hello(&channel).await.unwrap(), "b");
    let wanted = (calls + 2, calls + 2, 1, calls + 1, vec![]);
    assert_eq!(counts(&stream.report().await), wanted);
}

#[tokio::test(start_paused = true)]
async fn drops_are_counted_by_token_and_are_not_received() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.list([
        entry(a.addr, ""),
        drop_entry("load"),
        drop_entry("rate"),
        drop_entry("load"),
    ]);
    world.settle().await;
    for _ in 0..20 {
        let _ = hello(&channel).await;
    }
    let report = stream.report().await;
    let drops = vec![("load", 10), ("rate", 5)];
    assert_eq!(counts(&report), (20, 20, 0, 5, drops));
}

/// One streaming RPC, to a backend that is a balancer: it is the streaming service
/// at hand. Dropping what this returns cancels it.
async fn streaming(
    channel: &Channel,
) -> Result<
    (
        mpsc::Sender<lookaside_proto::lb_v1::LoadBalanceRequest>,
        impl Sized,
    ),
    tonic::Status,
> {
    let (requests, outbound) = mpsc::channel(1);
    let mut client = LoadBalancerClient::new(channel.clone());
    let call = client.balance_load(ReceiverStream::new(outbound));
    let responses = within("the start of a streaming call", call).await?;
    Ok((requests, responses))
}

#[tokio::test(start_paused = true)]
async fn a_streaming_call_is_under_way_until_its_stream_ends() {
    let mut world = World::new();
    let mut backend = Balancer::in_memory(&world.net, world.net.address());
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.list([entry(backend.addr, "")]);
    world.settle().await;
    let call = streaming(&channel).await.unwrap();
    let _served = backend.accept().await;
    assert_eq!(counts(&stream.report().await), (1, 0, 0, 0, vec![]));
    drop(call);
    assert_eq!(counts(&stream.report().await), (0, 1, 0, 1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn streaming_calls_are_dropped_and_counted_like_the_others() {
    let mut world = World::new();
    let backend = Balancer::in_memory(&world.net, world.net.address());
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.list([entry(backend.addr, ""), drop_entry("rate")]);
    world.settle().await;
    for turn in 0..10 {
        let call = streaming(&channel).await;
        assert_eq!(call.is_err(), turn % 2 == 1);
    }
    let drops = vec![("rate", 5)];
    assert_eq!(counts(&stream.report().await), (10, 10, 0, 5, drops));
}

#[tokio::test(start_paused = true)]
async fn a_streaming_call_that_could_not_be_sent_is_counted_so() {
    let mut world = World::new();
    let backends = [(); 2].map(|()| Balancer::in_memory(&world.net, world.net.address()));
    let [mut a, b] = backends;
    let channel = world.follow(&[]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.list([entry(a.addr, ""), entry(b.addr, "")]);
    world.settle().await;
    // Until it is the turn of "a".
    let mut calls = 1;
    streaming(&channel).await.unwrap();
    if a.is_wanted() {
        streaming(&channel).await.unwrap();
        calls = 2;
    }
    a.kill();
    streaming(&channel).await.unwrap();
    let wanted = (calls + 2, calls + 2, 1, calls + 1, vec![]);
    assert_eq!(counts(&stream.report().await), wanted);
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_is_told_only_of_calls_since_its_list() {
    for token in ["same", "new"] {
        let mut world = World::new();
        let a = world.backend("a");
        let channel = world.follow(&[]);
        let stream = world.balancer.greet_with(Duration::from_secs(60)).await;
        stream.list([entry(a.addr, "same")]);
        world.settle().await;
        hellos(&channel, 7).await;
        // Seven were not reported in time, and five come while there is no stream.
        world.balancer.kill();
        drop(stream);
        world.settle().await;
        hellos(&channel, 5).await;
        world.restart_balancer();
        let mut stream = world.balancer.greet_with(SECOND).await;
        stream.list([entry(a.addr, token)]);
        world.settle().await;
        hellos(&channel, 3).await;
        assert_eq!(counts(&stream.report().await), (3, 3, 0, 3, vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_takes_its_report_with_it() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.follow(&[]);
    for _ in 0..5 {
        let mut stream = world.balancer.greet_with(SECOND).await;
        stream.list([entry(a.addr, "")]);
        world.settle().await;
        hello(&channel).await.unwrap();
        // In the very millisecond in which the report is due.
        world.pass(0.998).await;
        stream.end();
        world.pass(0.001).await;
        while let Some(request) = stream.next_request().await {
            assert!(request.load_balance_request_type.is_some());
        }
    }
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn calls_to_fallback_addresses_are_not_reported() {
    let mut world = World::new();
    let spare = world.backend("spare");
    let channel = world.follow(&[&spare]);
    let mut stream = world.balancer.greet_with(SECOND).await;
    stream.fallback();
    world.settle().await;
    hellos(&channel, 5).await;
    assert_eq!(counts(&stream.report().await), (0, 0, 0, 0, vec![]));
    assert!(!speaks(&world, &mut stream, 60.0).await);
}
