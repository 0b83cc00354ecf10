//! How streams, connections and the port end.

use tokio::net::TcpStream;
use tonic::Code;

use super::raw::{Raw, initial};
use super::*;

#[tokio::test]
async fn streams_of_a_removed_service_end_and_are_not_opened_again() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    balancer.configure(&[(GREETER, &[]), ("other.test", &[])]);
    balancer.set("other.test", &[(2, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    let mut removed = raw.follow(GREETER).await;
    let mut kept = raw.follow("other.test").await;
    kept.list().await;
    balancer.configure(&[("other.test", &[])]);
    let ended = removed.end().await;
    assert!(!ended.trailers_only);
    assert_eq!(ended.status.code(), Code::NotFound);

    let mut again = raw.call().await;
    again.send(initial(GREETER));
    let ended = again.end().await;
    assert!(ended.trailers_only);
    assert_eq!(ended.status.code(), Code::NotFound);
    balancer.set("other.test", &[(3, 1.0)]);
    assert_eq!(counts(&kept.list().await), [(3, 1)]);
}

#[tokio::test]
async fn a_client_that_leaves_is_forgotten() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let service = balancer.catalogue.get(GREETER).unwrap();
    let mut raw = Raw::connect(&balancer).await;
    let mut reset = raw.follow(GREETER).await;
    let staying = raw.follow(GREETER).await;
    assert_eq!(balancer.streams(&service), 2);
    reset.request.send_reset(h2::Reason::CANCEL);
    balancer.until(|_| balancer.streams(&service) == 1).await;
    // The connection is dropped with its socket, without a goodbye.
    raw.connection.abort();
    drop(staying);
    balancer.until(|_| balancer.streams(&service) == 0).await;
    balancer.until(|b| b.metric("connections") == 0).await;
    assert_eq!(balancer.held(), 0);
}

#[tokio::test]
async fn a_client_that_takes_no_list_in_time_loses_its_connection() {
    let hour = Duration::from_secs(3600);
    let mut setting = Setting::default();
    setting.limits.keepalive_interval = hour;
    setting.streams.list_timeout = Duration::from_millis(300);
    let balancer = Balancer::with(setting);
    balancer.configure(&[(GREETER, &[])]);
    balancer.set(GREETER, &[(1, 200.0), (2, 1.0)]);
    let mut raw = Raw::with_window(&balancer, 300).await;
    let mut stuck = raw.follow(GREETER).await;
    let mut other = balancer.follow(GREETER).await;
    other.list().await;
    balancer.set(GREETER, &[(3, 1.0)]);
    assert_eq!(counts(&other.list().await), [(3, 1)]);
    let lost = tokio::time::timeout(SOON, raw.connection).await;
    let _ = lost.expect("before the keepalive looks").unwrap();
    balancer.until(|b| b.metric("connections") == 1).await;
    let closed = "connections_closed_total{reason=\"cancelled\"}";
    assert_eq!(balancer.metric(closed), 1);
    balancer.set(GREETER, &[(4, 1.0)]);
    assert_eq!(counts(&other.list().await), [(4, 1)]);
    stuck.request.send_reset(h2::Reason::CANCEL);
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_then_the_port() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let mut client = balancer.follow(GREETER).await;
    client.list().await;
    balancer.shutdown.cancel();
    balancer.method.end_streams(Duration::ZERO).await;
    let ended = client.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    let served = tokio::time::timeout(SOON, balancer.served).await;
    served.expect("ends in time").unwrap().unwrap();
    assert!(TcpStream::connect(balancer.addr).await.is_err());
}

#[tokio::test]
async fn during_a_shutdown_streams_are_refused_first_thing() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    balancer.method.end_streams(Duration::ZERO).await;
    let refused = balancer.refusal(GREETER).await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}

#[tokio::test]
async fn a_stream_that_nobody_ends_is_cut_at_the_deadline() {
    let balancer = Balancer::with(Setting {
        deadline: Duration::from_millis(10),
        ..Setting::default()
    });
    balancer.configure(&[(GREETER, &[])]);
    balancer.set(GREETER, &[(1, 1.0)]);
    let mut client = balancer.follow(GREETER).await;
    client.list().await;
    balancer.shutdown.cancel();
    let served = tokio::time::timeout(SOON, balancer.served).await;
    served.expect("ends in time").unwrap().unwrap();
    client.next().await.unwrap_err();
}

#[tokio::test]
async fn other_methods_are_served_on_the_same_port() {
    use lookaside_proto::health_v1::HealthCheckRequest;
    use lookaside_proto::health_v1::health_client::HealthClient;
    let balancer = Balancer::start();
    let checked = HealthClient::new(balancer.channel().await)
        .check(HealthCheckRequest::default())
        .await;
    assert_eq!(checked.unwrap().into_inner().status, 1);
    let mut raw = Raw::connect(&balancer).await;
    let uri = "http://lb.test/grpc.lb.v1.LoadBalancer/Nothing";
    let mut call = raw
        .call_with(|request| *request.uri_mut() = uri.parse().unwrap())
        .await;
    assert_eq!(call.end().await.status.code(), Code::Unimplemented);
}
