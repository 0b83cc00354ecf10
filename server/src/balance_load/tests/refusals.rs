//! What is refused, and that it is refused before anything else is said.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use tonic::Code;

use super::raw::{Ended, Raw, framed, initial, stats};
use super::*;

/// How a call ends that sends just this.
async fn sending(balancer: &Balancer, bytes: Bytes) -> Ended {
    let mut raw = Raw::connect(balancer).await;
    let mut call = raw.call().await;
    call.send(bytes);
    call.end().await
}

/// And one that compresses by `encoding`.
async fn compressed(balancer: &Balancer, encoding: &'static str, message: &[u8]) -> Ended {
    let mut raw = Raw::connect(balancer).await;
    let encoding = HeaderValue::from_static(encoding);
    let mut call = raw
        .call_with(|request| drop(request.headers_mut().insert("grpc-encoding", encoding)))
        .await;
    call.send(framed(1, message));
    call.end().await
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn assert_refused(ended: &Ended, code: Code, says: &str) {
    assert!(ended.trailers_only, "{ended:?}");
    assert_eq!(ended.status.code(), code, "{ended:?}");
    let message = ended.status.message();
    assert!(message.contains(says), "{message:?} does not say {says:?}");
}

#[tokio::test]
async fn what_is_not_grpc_gets_an_http_status() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    let mut call = raw.call_with(|r| *r.method_mut() = Method::GET).await;
    let response = call.response().await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()[ALLOW], "POST");

    for content_type in ["text/html", "application/grpc+json", "application/grpcx"] {
        let value = HeaderValue::from_static(content_type);
        let insert = |r: &mut http::Request<()>| drop(r.headers_mut().insert(CONTENT_TYPE, value));
        let response = raw.call_with(insert).await.response().await;
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    assert_eq!(
        balancer.metric("streams_refused_total{reason=\"not_grpc\"}"),
        4
    );
}

#[tokio::test]
async fn grpc_content_types_with_suffix_or_parameter_are_taken() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    for content_type in ["application/grpc+proto", "Application/GRPC; charset=x"] {
        let value = HeaderValue::from_static(content_type);
        let insert = |r: &mut http::Request<()>| drop(r.headers_mut().insert(CONTENT_TYPE, value));
        let mut call = raw.call_with(insert).await;
        call.send(initial(GREETER));
        assert!(call.next().await.is_some());
    }
}

#[tokio::test]
async fn a_service_that_is_not_configured_is_refused_by_name() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let ended = sending(&balancer, initial("Nobody.test:80")).await;
    assert_refused(&ended, Code::NotFound, "`nobody.test:80`");
    assert_refused(&ended, Code::NotFound, "[[service]]");
    let reason = "streams_refused_total{reason=\"unknown_service\"}";
    assert_eq!(balancer.metric(reason), 1);
}

#[tokio::test]
async fn bad_names_are_refused() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    for bad in ["", ":80", ".", "two words", "größe", "line\nbreak", "nul\0"] {
        let ended = sending(&balancer, initial(bad)).await;
        assert_refused(&ended, Code::InvalidArgument, "initial_request.name");
    }
    let ended = sending(&balancer, initial(&"a".repeat(256))).await;
    assert_refused(&ended, Code::InvalidArgument, "255");
}

#[tokio::test]
async fn a_name_of_a_mebibyte_is_refused_at_its_length() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let ended = sending(&balancer, initial(&"a".repeat(1 << 20))).await;
    assert_refused(&ended, Code::ResourceExhausted, "65536");
}

#[tokio::test]
async fn a_first_message_must_be_an_initial_request() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let ended = sending(&balancer, stats(ClientStats::default())).await;
    assert_refused(&ended, Code::InvalidArgument, "client_stats came before");
    let ended = sending(&balancer, framed(0, &[])).await;
    assert_refused(&ended, Code::InvalidArgument, "neither");
    for garbage in [&[0xff; 40][..], b"GET / HTTP/1.1", &[0x0a, 0x7f]] {
        let ended = sending(&balancer, framed(0, garbage)).await;
        assert_refused(&ended, Code::InvalidArgument, "LoadBalanceRequest");
    }
    let ended = sending(&balancer, framed(7, b"x")).await;
    assert_refused(&ended, Code::InvalidArgument, "flag byte 7");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_told_what_was_expected() {
    let mut setting = Setting::default();
    setting.streams.initial_request_timeout = Duration::from_millis(10);
    let balancer = Balancer::with(setting);
    let mut raw = Raw::connect(&balancer).await;
    let ended = raw.call().await.end().await;
    assert_refused(&ended, Code::DeadlineExceeded, "initial_request");
    // Nor does half a message count.
    let mut call = raw.call().await;
    call.send(initial(GREETER).slice(..7));
    assert_refused(&call.end().await, Code::DeadlineExceeded, "10ms");
}

#[tokio::test]
async fn a_request_that_ends_at_once_is_refused() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    let mut call = raw.call().await;
    call.request.send_data(Bytes::new(), true).unwrap();
    let ended = call.end().await;
    assert_refused(&ended, Code::InvalidArgument, "without an initial_request");
}

#[tokio::test]
async fn a_message_may_come_byte_by_byte() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    let mut call = raw.call().await;
    let whole = initial(GREETER);
    for at in 0..whole.len() {
        call.send(whole.slice(at..=at));
    }
    assert!(call.next().await.is_some());
    assert_eq!(counts(&call.list().await), [(1, 1)]);
}

#[tokio::test]
async fn compressed_requests_are_understood() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let plain = initial("nobody.test").slice(5..);
    let ended = compressed(&balancer, "gzip", &gzip(&plain)).await;
    assert_refused(&ended, Code::NotFound, "nobody.test");
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&plain).unwrap();
    let ended = compressed(&balancer, "deflate", &zlib.finish().unwrap()).await;
    assert_refused(&ended, Code::NotFound, "nobody.test");
}

#[tokio::test]
async fn compression_is_no_way_around_the_limits() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let bomb = gzip(&vec![0; 50 << 20]);
    assert!(bomb.len() < MAX_REQUEST);
    let ended = compressed(&balancer, "gzip", &bomb).await;
    assert_refused(&ended, Code::ResourceExhausted, "decompressed");

    let ended = compressed(&balancer, "gzip", b"not gzip").await;
    assert_refused(&ended, Code::InvalidArgument, "does not decompress");
    let ended = compressed(&balancer, "identity", &gzip(b"")).await;
    assert_refused(&ended, Code::Internal, "grpc-encoding");

    let ended = compressed(&balancer, "snappy", b"").await;
    assert_refused(&ended, Code::Unimplemented, "`snappy`");
    assert_eq!(ended.headers["grpc-accept-encoding"], Encoding::ACCEPTED);
}

#[tokio::test]
async fn streams_over_the_limit_are_refused_until_one_ends() {
    let mut setting = Setting::default();
    setting.streams.per_peer = 1;
    let balancer = Balancer::with(setting);
    balancer.configure(&[(GREETER, &[])]);
    balancer.set(GREETER, &[(1, 1.0)]);
    let mut first = balancer.follow(GREETER).await;
    first.list().await;
    let refused = balancer.refusal(GREETER).await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    drop(first);
    balancer.until(|b| b.metric(STREAMS) == 0).await;
    balancer.follow(GREETER).await;

    let mut setting = Setting::default();
    setting.streams.total = 0;
    let balancer = Balancer::with(setting);
    let refused = balancer.refusal(GREETER).await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}
