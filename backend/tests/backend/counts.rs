//! What balancers are told, over sockets: every call, once.

use std::time::Duration;

use lookaside_backend::{Load, Registration, Utilization};
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tonic::Request;

use crate::balancer::{Balancer, Stream};
use crate::greeter::{Server, greet};
use crate::soon;

/// Adds reports up until so many calls were told of; returns the errors among
/// them.
async fn add_up(stream: &mut Stream, calls: f64) -> f64 {
    let (mut told, mut errors) = (0.0, 0.0);
    while told < calls - 0.001 {
        let report = stream.load().await;
        let window = lookaside_proto::duration::from_proto(&report.window.unwrap()).unwrap();
        let load = report.load.unwrap();
        told += load.rps_fractional * window.as_secs_f64();
        errors += load.eps * window.as_secs_f64();
    }
    assert!((told - calls).abs() < 0.001, "{told} of {calls}");
    errors
}

#[tokio::test]
async fn every_call_is_told_once_and_errors_are_those_of_the_backend() {
    let mut balancer = Balancer::start().await;
    let load = Load::new(Utilization::InFlight { limit: 8.0 });
    let _registration = Registration::builder(balancer.target())
        .service("greeter.test")
        .port(1)
        .load(&load)
        .start()
        .unwrap();
    let (mut stream, _) = balancer.registered(100).await;
    // The first is of the time before.
    stream.load().await;

    let server = Server::start(&load, std::future::pending()).await;
    let channel = server.channel().await;
    for _ in 0..40 {
        greet(&channel, "good").await.unwrap();
        greet(&channel, "not found").await.unwrap_err();
    }
    for _ in 0..7 {
        greet(&channel, "internal").await.unwrap_err();
    }
    let errors = add_up(&mut stream, 87.0).await;
    assert!((errors - 7.0).abs() < 0.001, "{errors}");

    // Two calls that their callers do not wait for: one takes it back, ...
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { greet(&channel, "wait").await }
    });
    soon("the call", async {
        while load.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    waiting.abort();
    assert!(add_up(&mut stream, 1.0).await < 0.001);

    // ... the other's time is over.
    let mut request = Request::new(HelloRequest {
        name: "wait".to_owned(),
    });
    request.set_timeout(Duration::from_millis(50));
    let mut client = GreeterClient::new(channel);
    client.say_hello(request).await.unwrap_err();
    let errors = add_up(&mut stream, 1.0).await;
    assert!((errors - 1.0).abs() < 0.001, "{errors}");
    assert_eq!(load.in_flight(), 0);
}
