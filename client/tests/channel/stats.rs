//! What a client reports to its balancer.

use std::time::Duration;

use lookaside_proto::lb_v1::ClientStats;

use crate::harness::{
    Backend, Balancer, BalancerStream, call, drop_entry, entry, follow, hello, hellos, named, until,
};

/// As often as the client takes.
const INTERVAL: Duration = Duration::from_millis(100);

/// The sum of the reports until `finished` calls have finished.
async fn sum(stream: &mut BalancerStream, finished: i64) -> ClientStats {
    let mut sum = ClientStats::default();
    while sum.num_calls_finished < finished {
        let report = stream.report().await;
        assert!(report.timestamp.is_some());
        sum.num_calls_started += report.num_calls_started;
        sum.num_calls_finished += report.num_calls_finished;
        sum.num_calls_finished_known_received += report.num_calls_finished_known_received;
        sum.num_calls_finished_with_client_failed_to_send +=
            report.num_calls_finished_with_client_failed_to_send;
        sum.calls_finished_with_drop
            .extend(report.calls_finished_with_drop);
    }
    sum
}

#[tokio::test]
async fn every_call_is_counted_once() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let mut stream = balancer.greet_with(INTERVAL).await;
    stream.list([entry(a.addr, "")]);
    hellos(&channel, 20).await;
    let failed = call(&channel, tonic::Request::new(named("fail"))).await;
    assert_eq!(failed.unwrap_err().code(), tonic::Code::DataLoss);
    let sum = sum(&mut stream, 21).await;
    assert_eq!(sum.num_calls_started, 21);
    assert_eq!(sum.num_calls_finished, 21);
    assert_eq!(sum.num_calls_finished_known_received, 21);
    assert_eq!(sum.num_calls_finished_with_client_failed_to_send, 0);
    assert_eq!(sum.calls_finished_with_drop, []);
}

#[tokio::test]
async fn drops_are_counted_by_token() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let mut stream = balancer.greet_with(INTERVAL).await;
    stream.list([
        entry(a.addr, ""),
        drop_entry("rate"),
        drop_entry("load"),
        drop_entry("rate"),
    ]);
    for _ in 0..40 {
        let _ = hello(&channel).await;
    }
    let sum = sum(&mut stream, 40).await;
    assert_eq!(sum.num_calls_started, 40);
    assert_eq!(sum.num_calls_finished_known_received, 10);
    let of = |token| -> i64 {
        let drops = sum.calls_finished_with_drop.iter();
        drops
            .filter(|drop| drop.load_balance_token == token)
            .map(|drop| drop.num_calls)
            .sum()
    };
    assert_eq!((of("rate"), of("load")), (20, 10));
}

#[tokio::test]
async fn a_call_under_way_is_started_and_not_finished() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    a.hold(true);
    let channel = follow(&balancer);
    let mut stream = balancer.greet_with(INTERVAL).await;
    stream.list([entry(a.addr, "")]);
    let calling = channel.clone();
    let under_way = tokio::spawn(async move { hello(&calling).await });
    let mut started = stream.report().await;
    while started.num_calls_started == 0 {
        started = stream.report().await;
    }
    assert_eq!(
        (started.num_calls_started, started.num_calls_finished),
        (1, 0)
    );
    a.hold(false);
    under_way.await.unwrap().unwrap();
    let finished = sum(&mut stream, 1).await;
    assert_eq!(
        (finished.num_calls_started, finished.num_calls_finished),
        (0, 1)
    );
}

#[tokio::test]
async fn an_idle_client_says_so_once() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let mut stream = balancer.greet_with(INTERVAL).await;
    stream.list([entry(a.addr, "")]);
    let nothing = |report: &ClientStats| {
        *report
            == ClientStats {
                timestamp: report.timestamp,
                ..ClientStats::default()
            }
    };
    assert!(nothing(&stream.report().await));
    hello(&channel).await.unwrap();
    // After the silence comes the call, then one report of nothing, then none:
    // the next is of the next call.
    let mut reports = vec![];
    let mut finished = 0;
    while finished < 1 {
        let report = stream.report().await;
        finished += report.num_calls_finished;
        reports.push(report);
    }
    assert!(reports.iter().all(|report| !nothing(report)));
    assert!(nothing(&stream.report().await));
    hello(&channel).await.unwrap();
    assert!(!nothing(&stream.report().await));
}

#[tokio::test]
async fn a_new_stream_counts_from_nothing_even_with_the_same_list() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let stream = balancer.greet_with(Duration::from_secs(3600)).await;
    stream.list([entry(a.addr, "")]);
    hellos(&channel, 5).await;
    drop(stream);
    let mut stream = balancer.greet_with(INTERVAL).await;
    stream.list([entry(a.addr, "")]);
    // The calls from here on are counted, once the list has arrived.
    let mut calls = 0;
    let mut report = ClientStats::default();
    until("a report of a call", async || {
        hello(&channel).await.unwrap();
        calls += 1;
        tokio::select! {
            next = stream.report() => report = next,
            () = tokio::task::yield_now() => {}
        }
        report.num_calls_started > 0
    })
    .await;
    assert!(report.num_calls_started <= calls, "{report:?}");
    let under_way = report.num_calls_started - report.num_calls_finished;
    assert!((0..=1).contains(&under_way), "{report:?}");
}

#[tokio::test]
async fn no_reports_if_the_balancer_does_not_ask() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let mut stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    hellos(&channel, 5).await;
    drop(channel);
    // The next thing the balancer hears is that the client has gone.
    assert!(stream.next_request().await.is_none());
}
