//! A backend goes, and no call fails.

use std::sync::Arc;
use std::time::Duration;

use lookaside_backend::{DrainOptions, Load, Registration, Utilization};
use lookaside_proto::orca_service_v3::OrcaLoadReportRequest;
use lookaside_proto::orca_service_v3::open_rca_service_client::OpenRcaServiceClient;
use lookaside_proto::registration_v1::Drained;
use lookaside_proto::registration_v1::register_request::Message;
use lookaside_proto::registration_v1::register_response::Message as Answer;
use tokio::sync::Notify;

use crate::balancer::Balancer;
use crate::greeter::{Server, greet};
use crate::soon;

fn load() -> Load {
    Load::new(Utilization::InFlight { limit: 8.0 })
}

fn register(balancer: &Balancer, load: &Load) -> Registration {
    Registration::builder(balancer.target())
        .service("greeter.test")
        .port(1)
        .load(load)
        .start()
        .unwrap()
}

#[tokio::test]
async fn balancers_hear_first_then_calls_end_then_the_server() {
    let mut balancer = Balancer::start().await;
    let load = load();
    let registration = register(&balancer, &load);
    let (mut stream, _) = balancer.registered(5000).await;
    soon("registration", registration.registered())
        .await
        .unwrap();

    let stop = Arc::new(Notify::new());
    let server = Server::start(&load, {
        let stop = Arc::clone(&stop);
        async move {
            stop.notified().await;
            assert!(registration.drain().await.is_clean());
        }
    })
    .await;
    let channel = server.channel().await;
    // Somebody follows the backend's load: that must not hold it up.
    let mut orca = OpenRcaServiceClient::new(channel.clone());
    let reports = orca.stream_core_metrics(OrcaLoadReportRequest::default());
    let mut reports = soon("reports", reports).await.unwrap().into_inner();
    soon("a report", reports.message()).await.unwrap().unwrap();

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
    stop.notify_one();
    let said = stream.next_but_load().await;
    assert!(matches!(said, Some(Message::Drain(_))), "{said:?}");
    // Clients do not know yet: their calls are answered.
    greet(&channel, "early").await.unwrap();
    stream.answer(Answer::Drained(Drained {})).await;
    greet(&channel, "late").await.unwrap();
    server.open();
    waiting.await.unwrap().unwrap();

    let said = stream.next_but_load().await;
    assert!(matches!(said, Some(Message::Leave(_))), "{said:?}");
    stream.end();
    server.ended().await;
    assert!(soon("the end", reports.message()).await.is_err());
}

#[tokio::test]
async fn a_balancer_that_does_not_answer_and_a_call_that_does_not_end_are_not_waited_for() {
    let mut balancer = Balancer::start().await;
    let load = load();
    let registration = register(&balancer, &load);
    let (_stream, _) = balancer.registered(5000).await;
    soon("registration", registration.registered())
        .await
        .unwrap();
    let server = Server::start(&load, std::future::pending()).await;
    let channel = server.channel().await;
    let _waiting = tokio::spawn(async move { greet(&channel, "wait").await });
    soon("the call", async {
        while load.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let brief = Duration::from_millis(50);
    let options = DrainOptions {
        balancers: brief,
        calls: brief,
        quiet: brief,
    };
    let drained = soon("the drain", registration.drain_with(options)).await;
    assert_eq!((drained.balancers, drained.acknowledged), (1, 0));
    assert_eq!(drained.calls_left, 1);
    assert!(!drained.is_clean());
}

#[tokio::test]
async fn a_balancer_that_comes_back_during_a_drain_is_told_of_it() {
    let mut balancer = Balancer::start().await;
    let load = load();
    let registration = register(&balancer, &load);
    let (_stream, _) = balancer.registered(5000).await;
    soon("registration", registration.registered())
        .await
        .unwrap();
    let drained = tokio::spawn(async move {
        let options = DrainOptions {
            balancers: crate::PATIENCE,
            quiet: Duration::from_millis(10),
            ..DrainOptions::default()
        };
        registration.drain_with(options).await
    });
    let addr = balancer.kill();
    let mut balancer = Balancer::start_at(addr).await;
    let mut stream = balancer.stream().await;
    let said = stream.registration().await;
    // Told before any answer, so that no list has it for a moment.
    assert!(matches!(stream.next().await, Some(Message::Drain(_))));
    stream.accept(&said, 5000).await;
    stream.answer(Answer::Drained(Drained {})).await;
    let said = stream.next_but_load().await;
    assert!(matches!(said, Some(Message::Leave(_))), "{said:?}");
    stream.end();
    assert!(soon("the drain", drained).await.unwrap().is_clean());
}

#[tokio::test]
async fn without_balancers_a_drain_waits_for_calls_alone() {
    let load = load();
    let registration = Registration::builder("static:127.0.0.1:9")
        .service("greeter.test")
        .port(1)
        .load(&load)
        .start()
        .unwrap();
    let drained = soon("the drain", registration.drain()).await;
    assert_eq!((drained.balancers, drained.calls_left), (0, 0));
}

#[tokio::test]
async fn a_drain_that_is_called_off_registers_again_with_the_same_weight() {
    let mut balancer = Balancer::start().await;
    let load = load();
    let registration = register(&balancer, &load);
    let (mut stream, first) = balancer.registered(5000).await;
    soon("registration", registration.registered())
        .await
        .unwrap();
    // While it drains, on the same stream.
    {
        let draining = registration.drain();
        let drained = async {
            let said = stream.next_but_load().await;
            assert!(matches!(said, Some(Message::Drain(_))), "{said:?}");
        };
        tokio::select! {
            _ = draining => panic!("the drain ended before the balancer heard of it"),
            () = drained => {}
        }
    }
    registration.resume();
    let Some(Message::Registration(again)) = stream.next_but_load().await else {
        panic!("no registration")
    };
    assert_eq!(again, first);
    stream.accept(&again, 5000).await;
    soon("registration", registration.registered())
        .await
        .unwrap();
    // After it has left, on a new one.
    let left = async {
        let said = stream.next_but_load().await;
        assert!(matches!(said, Some(Message::Leave(_))), "{said:?}");
        stream.end();
    };
    soon("good-bye", async {
        tokio::join!(registration.leave(), left)
    })
    .await;
    registration.resume();
    let (_stream, again) = balancer.registered(5000).await;
    assert_eq!(again, first);
    soon("registration", registration.registered())
        .await
        .unwrap();
}
