//! What servers answer that is not a plain gRPC response: other HTTP, too much, too
//! late, or a goodbye.

use std::time::Duration;

use h2::server;
use http::Response;
use http_body_util::BodyExt as _;
use lookaside_client::Channel;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tonic::Code;

use super::harness::{StreamServer, hello, timed, until};

#[tokio::test]
async fn http_that_is_not_grpc_is_a_code_and_shows_its_body() {
    let mut server = StreamServer::start(&server::Builder::new()).await;
    let channel = server.channel();
    for (status, code) in [
        (200, Code::Unknown),
        (401, Code::Unauthenticated),
        (403, Code::PermissionDenied),
        (404, Code::Unimplemented),
        (429, Code::Unavailable),
        (502, Code::Unavailable),
        (503, Code::Unavailable),
    ] {
        let answer = async {
            let mut respond = server.next().await;
            let response = Response::builder().status(status);
            let response = response.header("content-type", "text/html");
            let mut body = respond
                .send_response(response.body(()).unwrap(), false)
                .unwrap();
            body.send_data("<h1>the gateway</h1>".into(), true).unwrap();
        };
        let (answered, ()) = tokio::join!(hello(&channel), answer);
        let error = answered.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let text = error.message();
        assert!(text.contains(&format!("HTTP {status}")), "{text}");
        assert!(text.contains("<h1>the gateway</h1>"), "{text}");
    }
}

#[tokio::test]
async fn a_response_knows_who_answered() {
    let backend = super::harness::Backend::start("a").await;
    let target = format!("static:{}", backend.addr);
    let channel = Channel::builder(target).connect_lazy().unwrap();
    let mut client =
        lookaside_proto::helloworld::greeter_client::GreeterClient::new(channel.clone());
    let request = lookaside_proto::helloworld::HelloRequest::default();
    let response = client.say_hello(request).await.unwrap();
    let lookaside_client::Peer(peer) = response.extensions().get().unwrap();
    assert_eq!(peer.to_string(), backend.addr.to_string());
    assert_eq!(
        format!("{channel:?}"),
        format!(
            "Channel {{ authority: \"{}\", state: Ready, .. }}",
            backend.addr
        )
    );
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline_though_messages_are_at_hand() {
    let mut server = StreamServer::start(&server::Builder::new()).await;
    let channel = server.channel();
    let answer = async {
        let response = Response::builder().header("content-type", "application/grpc");
        let response = response.body(()).unwrap();
        let mut body = server.next().await.send_response(response, false).unwrap();
        for _ in 0..100 {
            body.send_data("\0\0\0\0\0".into(), false).unwrap();
        }
        body
    };
    let (body, _open) = tokio::join!(timed(&channel, "200m"), answer);
    let mut body = body.unwrap();
    body.frame().await.unwrap().unwrap();
    // An application that is busy until the call's time is over.
    tokio::time::sleep(Duration::from_millis(250)).await;
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn what_a_server_says_as_it_leaves_is_in_the_calls_status() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("static:{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        // Until the call has come: the path is in its headers.
        let mut seen = vec![];
        while !seen
            .windows(9)
            .any(|frame| frame[3..9] == [1, 4, 0, 0, 0, 1])
        {
            assert!(socket.read_buf(&mut seen).await.unwrap() > 0);
        }
        let data = b"too_many_pings";
        // Some say first that they leave, and then why.
        let mut goaway = vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 255, 255, 255, 0, 0, 0, 0];
        goaway.extend([0, 0, 8 + data.len() as u8, 7, 0, 0, 0, 0, 0]);
        goaway.extend([0, 0, 0, 1, 0, 0, 0, 11]);
        goaway.extend(data);
        socket.write_all(&goaway).await.unwrap();
    });
    let channel = Channel::builder(target).connect_lazy().unwrap();
    let error = hello(&channel).await.unwrap_err();
    server.await.unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    let text = error.message();
    assert!(text.contains("too_many_pings"), "{text}");
    assert!(text.contains("may have run"), "{text}");
}

#[tokio::test]
async fn a_timeout_says_what_is_left_when_the_call_goes() {
    let mut server = super::harness::Backend::start("a").await;
    let addr = server.addr;
    server.kill();
    let channel = Channel::builder(format!("static:{addr}"))
        .connect_lazy()
        .unwrap();
    let mut request = tonic::Request::new(lookaside_proto::helloworld::HelloRequest::default());
    request.set_timeout(Duration::from_secs(20));
    request
        .extensions_mut()
        .insert(lookaside_client::WaitForReady);
    let waiting = tokio::spawn({
        let channel = channel.clone();
        let mut client = lookaside_proto::helloworld::greeter_client::GreeterClient::new(channel);
        async move { client.say_hello(request).await }
    });
    until("a failed attempt", async || {
        channel.metrics().failed_connects > 0
    })
    .await;
    let server = super::harness::Backend::start_at("a", addr).await;
    waiting.await.unwrap().unwrap();
    let told = server.calls()[0].timeout.clone().unwrap();
    let (digits, unit) = told.split_at(told.len() - 1);
    assert_eq!(unit, "u");
    // It waited out a backoff.
    assert!(digits.parse::<u64>().unwrap() < 19_500_000, "{told}");
}
