//! Servers that allow few RPCs at a time on a connection (MAX_CONCURRENT_STREAMS).

use std::net::SocketAddr;

use lookaside_client::Channel;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::harness::{Balancer, StreamServer, drop_entry, end, entry, follow, hello, timed, until};

type Calls = JoinSet<Result<String, Status>>;

fn round_robin(addresses: &[SocketAddr]) -> Channel {
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    let target = format!("static:{}", addresses.join(","));
    Channel::builder(target)
        .round_robin()
        .connect_lazy()
        .unwrap()
}

/// Waits until as many backends are connected.
async fn connected(channel: &Channel, count: u64) {
    until("connections", async || {
        channel.metrics().subchannels.ready == count
    })
    .await;
}

/// Waits until as many calls have waited for room.
async fn waiting(channel: &Channel, count: u64) {
    until("calls that wait", async || {
        channel.metrics().stream_waits == count
    })
    .await;
}

#[tokio::test]
async fn a_call_that_waits_for_room_on_its_connection_says_so() {
    let mut server = StreamServer::with_limit(1).await;
    let channel = server.channel();
    let first = tokio::spawn({
        let channel = channel.clone();
        async move { hello(&channel).await }
    });
    let _unanswered = server.next().await;
    let error = timed(&channel, "50m").await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let text = error.message();
    assert!(text.contains("MAX_CONCURRENT_STREAMS"), "{text}");
    assert!(
        text.contains(&format!("{} allows 1 ", server.addr)),
        "{text}"
    );
    let metrics = channel.metrics();
    assert_eq!((metrics.stream_waits, metrics.expired), (1, 1));
    first.abort();
}

#[tokio::test]
async fn a_further_connection_is_opened_where_there_is_no_room() {
    let mut server = StreamServer::with_limit(1).await;
    let target = format!("static:{}", server.addr);
    let builder = Channel::builder(target).max_connections_per_backend(2);
    let channel = builder.connect_lazy().unwrap();
    let mut calls = Calls::new();
    let mut responds = vec![];
    for _ in 0..2 {
        calls.spawn(hello(&channel));
        responds.push(server.next().await);
    }
    // Two is the most: the third waits, until one of either connection ends.
    calls.spawn(hello(&channel));
    until("a second wait", async || {
        channel.metrics().stream_waits == 2
    })
    .await;
    assert!(!server.has_stream());
    end(&mut responds[1], Code::DataLoss);
    server.next().await;
    let first = calls.join_next().await.unwrap().unwrap();
    assert_eq!(first.unwrap_err().code(), Code::DataLoss);
}

#[tokio::test]
async fn a_call_goes_to_another_backend_where_the_one_picked_has_no_room() {
    let mut small = StreamServer::with_limit(1).await;
    let mut large = StreamServer::with_limit(100).await;
    let channel = round_robin(&[small.addr, large.addr]);
    connected(&channel, 2).await;
    let mut calls = Calls::new();
    let mut unanswered = vec![];
    for count in 1..=12 {
        calls.spawn(hello(&channel));
        let stream = tokio::select! {
            stream = small.next() => stream,
            stream = large.next() => stream,
        };
        unanswered.push(stream);
        assert_eq!(unanswered.len(), count);
    }
    assert_eq!(channel.metrics().stream_waits, 0);
    assert!(!small.has_stream() && !large.has_stream());
}

#[tokio::test]
async fn calls_that_wait_go_to_whichever_backend_has_room_first() {
    let mut a = StreamServer::with_limit(1).await;
    let mut b = StreamServer::with_limit(1).await;
    let channel = round_robin(&[a.addr, b.addr]);
    connected(&channel, 2).await;
    let mut calls = Calls::new();
    calls.spawn(hello(&channel));
    calls.spawn(hello(&channel));
    let mut at_a = a.next().await;
    let _at_b = b.next().await;
    // Two of these were picked for each.
    for count in 1..=4 {
        calls.spawn(hello(&channel));
        waiting(&channel, count).await;
    }
    for _ in 0..4 {
        end(&mut at_a, Code::DataLoss);
        at_a = a.next().await;
        let ended = calls.join_next().await.unwrap().unwrap();
        assert_eq!(ended.unwrap_err().code(), Code::DataLoss);
    }
    assert!(!b.has_stream());
    let metrics = channel.metrics();
    // Each counts once, wherever it went.
    assert_eq!(metrics.picks, 6);
}

#[tokio::test]
async fn a_backend_that_comes_later_takes_calls_that_wait() {
    let mut balancer = Balancer::start().await;
    let mut a = StreamServer::with_limit(1).await;
    let mut b = StreamServer::with_limit(1).await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    let mut calls = Calls::new();
    calls.spawn(hello(&channel));
    let _at_a = a.next().await;
    calls.spawn(hello(&channel));
    waiting(&channel, 1).await;
    stream.list([entry(a.addr, ""), entry(b.addr, "")]);
    end(&mut b.next().await, Code::DataLoss);
    let ended = calls.join_next().await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::DataLoss);
}

#[tokio::test]
async fn a_call_that_looks_for_room_is_not_dropped_for_that() {
    let mut balancer = Balancer::start().await;
    let mut a = StreamServer::with_limit(1).await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, ""), drop_entry("rate"), drop_entry("rate")]);
    let mut calls = Calls::new();
    calls.spawn(hello(&channel));
    let mut at_a = a.next().await;
    for _ in 0..2 {
        assert_eq!(hello(&channel).await.unwrap_err().code(), Code::Unavailable);
    }
    // The turn of a backend: whatever is looked at behind it drops it not.
    calls.spawn(hello(&channel));
    waiting(&channel, 1).await;
    assert_eq!(channel.metrics().drops, 2);
    end(&mut at_a, Code::Ok);
    a.next().await;
}

#[tokio::test]
async fn calls_that_wait_for_one_backend_are_sent_one_after_the_other() {
    let mut server = StreamServer::with_limit(1).await;
    let channel = server.channel();
    let mut calls = Calls::new();
    calls.spawn(hello(&channel));
    let mut first = server.next().await;
    for count in 1..=5 {
        calls.spawn(hello(&channel));
        waiting(&channel, count).await;
    }
    for _ in 0..5 {
        end(&mut first, Code::DataLoss);
        first = server.next().await;
    }
}
