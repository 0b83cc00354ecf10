//! RPCs that a server did not look at are sent again; others are not.

use std::time::Duration;

use lookaside_client::Channel;
use lookaside_client::backoff::BackoffConfig;
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tonic::Code;

use crate::harness::{
    Backend, Refusal, Refuser, connect, hello, hellos, nobody, share, until, within,
};

async fn beside(refuser: &Refuser, backend: &Backend) -> Channel {
    let target = format!("static:{},{}", refuser.addr, backend.addr);
    let builder = Channel::builder(target).round_robin();
    let channel = connect(builder).await.unwrap();
    until("a turn of each", async || {
        let _ = hello(&channel).await;
        refuser.seen() > 0 && !backend.calls().is_empty()
    })
    .await;
    channel
}

#[tokio::test]
async fn an_rpc_that_is_refused_unseen_is_sent_elsewhere() {
    let refuser = Refuser::start(Refusal::Stream).await;
    let a = Backend::start("a").await;
    let channel = beside(&refuser, &a).await;
    assert_eq!(share(&hellos(&channel, 50).await, "a"), 50);
    assert!(refuser.seen() > 25, "{}", refuser.seen());
    // What is sent again is the whole request.
    let names = a.calls().into_iter().map(|call| call.caller);
    assert!(names.into_iter().all(|name| name == "test"));
}

#[tokio::test]
async fn an_rpc_that_everybody_refuses_fails_after_the_second_time() {
    let refuser = Refuser::start(Refusal::Stream).await;
    let target = format!("static:{}", refuser.addr);
    let channel = connect(Channel::builder(target)).await.unwrap();
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(refuser.seen(), 2);
}

#[tokio::test]
async fn an_rpc_that_may_have_run_is_not_sent_again() {
    for how in [Refusal::Error, Refusal::Cut] {
        let refuser = Refuser::start(how).await;
        let target = format!("static:{}", refuser.addr);
        let channel = connect(Channel::builder(target)).await.unwrap();
        let status = hello(&channel).await.unwrap_err();
        let wanted = match how {
            Refusal::Error => Code::Internal,
            _ => Code::Unavailable,
        };
        assert_eq!(status.code(), wanted, "{status}");
        if wanted == Code::Unavailable {
            let text = status.message();
            assert!(text.contains("may have run"), "{text}");
            assert!(text.contains(&refuser.addr.to_string()), "{text}");
        }
        assert_eq!(refuser.seen(), 1);
    }
}

#[tokio::test]
async fn an_rpc_that_http2_cannot_carry_fails_at_once() {
    let a = Backend::start("a").await;
    let target = format!("static:{}", a.addr);
    let channel = connect(Channel::builder(target)).await.unwrap();
    let mut request = tonic::Request::new(HelloRequest::default());
    // HTTP/2 has no such header (RFC 9113 §8.2.2).
    let metadata = request.metadata_mut();
    metadata.insert("transfer-encoding", "chunked".parse().unwrap());
    let mut greeter = GreeterClient::new(channel.clone());
    let failed = within("the failure", greeter.say_hello(request)).await;
    assert_eq!(failed.unwrap_err().code(), Code::Internal);
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn a_backoff_of_ones_own_is_kept() {
    let backoff = BackoffConfig {
        base: Duration::from_millis(5),
        max: Duration::from_millis(20),
        ..BackoffConfig::default()
    };
    let channel = Channel::builder(format!("static:{}", nobody().await))
        .round_robin()
        .backoff(backoff)
        .tcp_keepalive(Duration::from_secs(60))
        .tcp_user_timeout(Duration::from_secs(20))
        .connect_lazy()
        .unwrap();
    // By gRPC's own this takes minutes.
    until("twenty attempts", async || {
        channel.metrics().failed_connects >= 20
    })
    .await;
}
