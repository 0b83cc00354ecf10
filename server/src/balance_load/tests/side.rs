//! The methods beside `BalanceLoad`: they are counted, and do not last without need.

use lookaside_proto::health_v1::HealthCheckRequest;
use lookaside_proto::health_v1::health_client::HealthClient;
use tonic::Code;

use super::raw::{Raw, initial};
use super::*;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

async fn call(raw: &mut Raw, path: &str) -> raw::Call {
    let uri = format!("http://lb.test{path}").parse().unwrap();
    raw.call_with(|request| *request.uri_mut() = uri).await
}

#[tokio::test]
async fn a_request_that_is_never_complete_ends() {
    let mut setting = Setting::default();
    setting.streams.request_timeout = Duration::from_millis(50);
    let balancer = Balancer::with(setting);
    let mut raw = Raw::connect(&balancer).await;
    let mut check = call(&mut raw, CHECK).await;
    check.send(vec![0, 0, 0]);
    let ended = check.end().await;
    assert_eq!(ended.status.code(), Code::DeadlineExceeded, "{ended:?}");
    balancer.until(|b| b.held() == 0).await;
}

#[tokio::test]
async fn reflection_that_nobody_asks_ends() {
    let mut setting = Setting::default();
    setting.streams.idle_timeout = Duration::from_millis(50);
    let balancer = Balancer::with(setting);
    let mut raw = Raw::connect(&balancer).await;
    let mut stream = call(&mut raw, REFLECTION).await;
    let ended = stream.end().await;
    assert_eq!(ended.status.code(), Code::DeadlineExceeded, "{ended:?}");
    drop(stream);
    balancer.until(|b| b.held() == 0).await;
}

#[tokio::test]
async fn health_watches_are_counted_and_take_no_lists_seats() {
    let mut setting = Setting::default();
    setting.streams.side_per_peer = 2;
    let balancer = Balancer::with(setting);
    balancer.configure(&[(GREETER, &[])]);
    balancer.set(GREETER, &[(1, 1.0)]);
    let channel = balancer.channel().await;
    let watch = async || {
        let mut client = HealthClient::new(channel.clone());
        let request = HealthCheckRequest::default();
        client.watch(request).await.map(tonic::Response::into_inner)
    };
    let mut first = watch().await.unwrap();
    assert!(first.message().await.unwrap().is_some());
    let second = watch().await.unwrap();
    assert_eq!(balancer.held(), 2);
    let refused = watch().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(balancer.metric("streams_refused_total{reason=\"peer\"}"), 1);

    balancer.follow(GREETER).await.list().await;
    drop(second);
    balancer.until(|b| b.held() == 1).await;
    watch().await.unwrap();
}

#[tokio::test]
async fn a_refusal_that_is_held_back_keeps_its_seat() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    for refused in 1..=21 {
        let mut call = raw.call().await;
        call.send(initial("nobody.test"));
        let unknown = "streams_refused_total{reason=\"unknown_service\"}";
        balancer.until(|b| b.metric(unknown) == refused).await;
        if refused == 21 {
            // It is told a second later.
            assert_eq!(balancer.held(), 1);
        }
        assert_eq!(call.end().await.status.code(), Code::NotFound);
        balancer.until(|b| b.held() == 0).await;
    }
}
