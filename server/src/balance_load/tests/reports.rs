//! What clients send while they listen.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::HeaderValue;
use lookaside_proto::lb_v1::ClientStatsPerToken;
use tonic::Code;

use super::raw::{Raw, framed, initial, stats};
use super::*;

/// A report with so many calls started, which is how tests see it arrive.
fn started(num_calls_started: i64) -> ClientStats {
    ClientStats {
        num_calls_started,
        ..ClientStats::default()
    }
}

fn service(metric: &str) -> String {
    format!("{metric}{{service=\"{GREETER}\"}}")
}

const MALFORMED: &str = "malformed_requests_total";
const STARTED: &str = "client_calls_started_total";

#[tokio::test]
async fn reports_are_counted_by_service() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    balancer.configure(&[(GREETER, &[("maintenance", 0.25)])]);
    let mut client = balancer.follow(GREETER).await;
    client.list().await;
    let dropped = |token: &str, num_calls| ClientStatsPerToken {
        load_balance_token: token.to_owned(),
        num_calls,
    };
    client.report(ClientStats {
        timestamp: None,
        num_calls_started: 10,
        num_calls_finished: 9,
        num_calls_finished_with_client_failed_to_send: 2,
        num_calls_finished_known_received: 4,
        calls_finished_with_drop: vec![
            dropped("maintenance", 1),
            dropped("maintenance~AAAAAAAA", 1),
            dropped("made up by the client", 1),
        ],
    });
    balancer.until(|b| b.metric(&service(STARTED)) == 10).await;
    let counted = |metric: &str| balancer.metric(&service(metric));
    assert_eq!(counted("client_calls_finished_total"), 9);
    assert_eq!(counted("client_calls_failed_to_send_total"), 2);
    assert_eq!(counted("client_calls_known_received_total"), 4);
    assert_eq!(counted("client_reports_total"), 1);
    let dropped = |category: &str| {
        let labels = format!("service=\"{GREETER}\",category=\"{category}\"");
        balancer.metric(&format!("client_calls_dropped_total{{{labels}}}"))
    };
    assert_eq!(dropped("maintenance"), 2);
    assert_eq!(dropped("other"), 1);
}

#[tokio::test]
async fn what_makes_no_sense_is_ignored_and_counted() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    let mut call = raw.follow(GREETER).await;
    call.list().await;
    call.send(initial("somebody.else"));
    call.send(framed(0, &[0xff; 40]));
    call.send(framed(0, &[]));
    call.send(framed(1, b"compressed, but by what?"));
    call.send(stats(ClientStats {
        num_calls_finished: -5,
        num_calls_finished_known_received: i64::MAX,
        num_calls_finished_with_client_failed_to_send: i64::MIN,
        ..ClientStats::default()
    }));
    call.send(stats(started(3)));
    balancer.until(|b| b.metric(&service(STARTED)) == 3).await;
    let counted = |metric: &str| balancer.metric(&service(metric));
    assert_eq!(counted("second_initial_requests_total"), 1);
    assert_eq!(counted(MALFORMED), 4);
    assert_eq!(counted("client_calls_finished_total"), 0);
    assert_eq!(counted("client_calls_failed_to_send_total"), 0);

    // And the stream goes on.
    balancer.set(GREETER, &[(1, 1.0), (2, 2.0)]);
    assert_eq!(counts(&call.list().await), [(1, 1), (2, 2)]);
}

#[tokio::test]
async fn a_stream_without_framing_ends_with_the_reason() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    let too_long = Bytes::from_static(&[0, 0, 1, 0, 1]);
    for (bytes, code) in [
        (framed(9, b"x"), Code::InvalidArgument),
        (too_long, Code::ResourceExhausted),
    ] {
        let mut call = raw.follow(GREETER).await;
        call.list().await;
        call.send(bytes);
        let ended = call.end().await;
        assert!(!ended.trailers_only);
        assert_eq!(ended.status.code(), code, "{ended:?}");
    }
    assert_eq!(balancer.metric(&service(MALFORMED)), 2);
}

#[tokio::test]
async fn many_small_reports_do_not_end_the_connection() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    let mut call = raw.follow(GREETER).await;
    call.list().await;
    for sent in 1..=1000 {
        call.send(stats(started(1)));
        if sent % 50 == 0 {
            balancer
                .until(|b| b.metric(&service(STARTED)) == sent)
                .await;
        }
    }
    assert!(!raw.connection.is_finished());
    balancer.set(GREETER, &[(2, 1.0)]);
    assert_eq!(counts(&call.list().await), [(2, 1)]);
}

/// What is sent as one DATA frame, again and again without pause.
async fn flood(balancer: &Balancer, message: &Bytes) {
    let mut raw = Raw::connect(balancer).await;
    let gzip = HeaderValue::from_static("gzip");
    let mut call = raw
        .call_with(|request| drop(request.headers_mut().insert("grpc-encoding", gzip)))
        .await;
    call.send(initial(GREETER));
    let _initial_response = call.next().await;
    call.list().await;
    let many: Bytes = message.repeat(100).into();
    for _ in 0..20 {
        call.send(many.clone());
    }
    let too_fast = service("client_messages_too_fast_total");
    let taken = |b: &Balancer| {
        let (reports, malformed) = (service("client_reports_total"), service(MALFORMED));
        b.metric(&too_fast) + b.metric(&reports) + b.metric(&malformed)
    };
    balancer.until(|b| taken(b) == 2000).await;
    assert!(balancer.metric(&too_fast) > 1000);

    // Who comes to itself is heard again, on the same stream, and was never cut off.
    let before = balancer.metric(&service(STARTED));
    let mut sent = 2000;
    while balancer.metric(&service(STARTED)) == before {
        call.send(stats(started(1)));
        sent += 1;
        balancer.until(|b| taken(b) == sent).await;
    }
    balancer.set(GREETER, &[(1, 1.0), (2, 2.0)]);
    assert_eq!(counts(&call.list().await), [(1, 1), (2, 2)]);
    assert!(!raw.connection.is_finished());
}

#[tokio::test]
async fn compressed_reports_without_pause_are_not_read_and_the_stream_goes_on() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let drops = vec![ClientStatsPerToken::default(); 32_000];
    let long = stats(ClientStats {
        calls_finished_with_drop: drops,
        ..ClientStats::default()
    });
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&long[5..]).unwrap();
    flood(&balancer, &framed(1, &gzip.finish().unwrap())).await;
}

#[tokio::test]
async fn plain_reports_without_pause_are_not_read_and_the_stream_goes_on() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let drops = vec![ClientStatsPerToken::default(); 200];
    flood(
        &balancer,
        &stats(ClientStats {
            calls_finished_with_drop: drops,
            ..ClientStats::default()
        }),
    )
    .await;
}

#[tokio::test]
async fn reports_that_come_with_the_initial_request_count() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    let mut call = raw.call().await;
    call.send([initial(GREETER), stats(started(1)), stats(started(2))].concat());
    balancer.until(|b| b.metric(&service(STARTED)) == 3).await;
}

#[tokio::test]
async fn a_client_that_has_nothing_more_to_say_may_listen_on() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    let mut call = raw.follow(GREETER).await;
    call.list().await;
    call.request.send_data(Bytes::new(), true).unwrap();
    balancer.set(GREETER, &[(2, 1.0)]);
    assert_eq!(counts(&call.list().await), [(2, 1)]);
}

/// Everything bad at once, on connections of its own and on the good client's.
#[tokio::test]
async fn no_client_is_disturbed_by_another() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut shared = Raw::connect(&balancer).await;
    let mut good = shared.follow(GREETER).await;
    good.list().await;
    let bad: Vec<Bytes> = vec![
        initial(""),
        initial(&"a".repeat(1 << 20)),
        initial("nobody.test"),
        stats(started(1)),
        framed(0, &[0xff; 1000]),
        framed(5, b""),
        Bytes::from_static(&[0xff; 70_000]),
        [initial(GREETER), framed(3, b"")].concat().into(),
    ];
    for bytes in bad {
        let mut own = Raw::connect(&balancer).await;
        for raw in [&mut own, &mut shared] {
            let mut call = raw.call().await;
            call.send(bytes.clone());
            assert_ne!(call.end().await.status.code(), Code::Ok);
        }
    }
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for garbage in [&b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n"[..], &[0; 100_000]] {
        let mut socket = tokio::net::TcpStream::connect(balancer.addr).await.unwrap();
        // It may be closed before all of it is written.
        let _ = socket.write_all(garbage).await;
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(SOON, socket.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open");
    }
    balancer.set(GREETER, &[(1, 1.0), (2, 1.0)]);
    assert_eq!(counts(&good.list().await), [(1, 1), (2, 1)]);
    assert!(!shared.connection.is_finished());
}
