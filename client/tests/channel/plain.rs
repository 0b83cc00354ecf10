//! A channel without a balancer.

use std::time::Duration;

use lookaside_client::{Channel, ConnectivityState, WaitForReady};
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use tonic::Code;

use crate::harness::{
    Backend, Balancer, call, connect, hello, hellos, named, nobody, patient_hello, reach_at_last,
    share, until_share, within,
};

#[tokio::test]
async fn pick_first_stays_with_the_first_that_answers() {
    let dead = nobody().await;
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let target = format!("static:{dead},{},{}", a.addr, b.addr);
    let channel = connect(Channel::builder(target)).await.unwrap();
    assert_eq!(channel.state(), ConnectivityState::Ready);
    assert_eq!(share(&hellos(&channel, 20).await, "a"), 20);
    assert_eq!(b.connections(), 0);
}

#[tokio::test]
async fn pick_first_moves_on_when_its_backend_dies() {
    let mut a = Backend::start("a").await;
    let b = Backend::start("b").await;
    let target = format!("static:{},{}", a.addr, b.addr);
    let channel = connect(Channel::builder(target)).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
    a.kill();
    reach_at_last(&channel, "b").await;
}

#[tokio::test]
async fn round_robin_takes_turns_and_skips_the_dead() {
    let dead = nobody().await;
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let target = format!("static:{},{dead},{}", a.addr, b.addr);
    let builder = Channel::builder(target).round_robin();
    let channel = connect(builder).await.unwrap();
    until_share(&channel, "a", 1, 2).await;
    let names = hellos(&channel, 100).await;
    assert_eq!((share(&names, "a"), share(&names, "b")), (50, 50));
}

#[tokio::test]
async fn a_backend_that_goes_away_costs_no_rpc() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let target = format!("static:{},{}", a.addr, b.addr);
    let builder = Channel::builder(target).round_robin();
    let channel = connect(builder).await.unwrap();
    until_share(&channel, "a", 1, 2).await;
    a.stop();
    // Each of these succeeds; at last none goes to "a".
    until_share(&channel, "b", 10, 10).await;
}

#[tokio::test]
async fn connect_says_whom_it_could_not_reach() {
    let dead = nobody().await;
    let connected = connect(Channel::builder(format!("static:{dead}"))).await;
    let error = connected.unwrap_err().to_string();
    assert!(error.contains(&dead.to_string()), "{error}");
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn rpcs_fail_fast_unless_they_wait_for_ready() {
    let addr = nobody().await;
    let target = format!("static:{addr}");
    let channel = Channel::builder(target).connect_lazy().unwrap();
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let waiting = tokio::spawn(patient_hello(&channel));
    let _backend = Backend::start_at("late", addr).await;
    assert_eq!(waiting.await.unwrap().unwrap(), "late");
}

#[tokio::test]
async fn a_timeout_ends_an_rpc_that_waits_and_one_under_way() {
    let addr = nobody().await;
    let target = format!("static:{addr}");
    let channel = Channel::builder(target).connect_lazy().unwrap();
    let mut request = tonic::Request::new(named("test"));
    request.extensions_mut().insert(WaitForReady);
    request.set_timeout(Duration::from_millis(10));
    let waited = call(&channel, request).await;
    assert_eq!(waited.unwrap_err().code(), Code::DeadlineExceeded);

    let backend = Backend::start("slow").await;
    backend.hold(true);
    let target = format!("static:{}", backend.addr);
    let channel = connect(Channel::builder(target)).await.unwrap();
    let mut request = tonic::Request::new(named("test"));
    request.set_timeout(Duration::from_millis(10));
    let under_way = call(&channel, request).await;
    assert_eq!(under_way.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_stream_under_way_outlives_its_channel() {
    // BalanceLoad, because it is the streaming RPC that is at hand.
    let mut server = Balancer::start().await;
    let target = format!("static:{}", server.addr);
    let channel = connect(Channel::builder(target)).await.unwrap();
    let (_requests, outbound) = tokio::sync::mpsc::channel(1);
    let outbound = tokio_stream::wrappers::ReceiverStream::new(outbound);
    let mut client = LoadBalancerClient::new(channel);
    let mut responses = client.balance_load(outbound).await.unwrap().into_inner();
    drop(client);
    let stream = server.accept().await;
    for _ in 0..3 {
        stream.list([]);
        assert!(
            within("a response", responses.message())
                .await
                .unwrap()
                .is_some()
        );
    }
    drop(stream);
    assert!(
        within("a response", responses.message())
            .await
            .unwrap()
            .is_none()
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_a_target() {
    use tokio_stream::wrappers::UnixListenerStream;

    let path = std::env::temp_dir().join(format!("lookaside-{}.sock", std::process::id()));
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(Backend::service("unix"))
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    let target = format!("unix:{}", path.display());
    let channel = connect(Channel::builder(target)).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "unix");
    server.abort();
    std::fs::remove_file(path).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_abstract_socket_is_a_target() {
    use tokio_stream::wrappers::UnixListenerStream;

    let name = format!("lookaside-{}", std::process::id());
    let listener = tokio::net::UnixListener::bind(format!("\0{name}")).unwrap();
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(Backend::service("abstract"))
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    let target = format!("unix-abstract:{name}");
    let channel = connect(Channel::builder(target)).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "abstract");
    server.abort();
}
