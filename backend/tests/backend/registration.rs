//! What a backend tells its balancers, and what it makes of their answers.

use lookaside_backend::{BalancerState, Load, Registration, RegistrationError, Utilization};
use lookaside_proto::registration_v1::register_request::Message;
use lookaside_proto::registration_v1::register_response::Message as Answer;
use lookaside_proto::registration_v1::registration::Where;
use lookaside_proto::registration_v1::{Outcome, ServiceResult};
use tonic::Status;

use crate::balancer::{Balancer, registered};
use crate::greeter::Server;
use crate::nameserver::NameServer;
use crate::soon;

fn backend(balancer: &Balancer) -> lookaside_backend::RegistrationBuilder {
    Registration::builder(balancer.target())
        .service("greeter.test")
        .port(50051)
}

/// Waits until a balancer that refused has changed its mind.
async fn taken(backend: &Registration) {
    soon("registration", async {
        while backend.registered().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_backend_says_who_it_is_and_then_how_busy_it_is() {
    let mut balancer = Balancer::start().await;
    let load = Load::new(Utilization::Set);
    load.set_utilization(0.75);
    let backend = backend(&balancer)
        .service("other.test")
        .weight(2.5)
        .zone("b")
        .label("version", "v2")
        .token("secret")
        .load(&load)
        .start()
        .unwrap();

    let (mut stream, said) = balancer.registered(100).await;
    assert_eq!(stream.token.as_deref(), Some("Bearer secret"));
    assert_eq!(said.services, ["greeter.test", "other.test"]);
    assert_eq!(said.r#where, Some(Where::Port(50051)));
    assert_eq!((said.weight, said.zone.as_str()), (Some(2.5), "b"));
    assert_eq!(said.labels["version"], "v2");
    assert_eq!(said.instance.len(), 16);
    soon("registration", backend.registered()).await.unwrap();

    for _ in 0..3 {
        let report = stream.load().await;
        assert_eq!(report.load.unwrap().application_utilization, 0.75);
    }
}

#[tokio::test]
async fn a_backend_registers_with_every_balancer() {
    let mut balancers = [Balancer::start().await, Balancer::start().await];
    let both = format!("static:{},{}", balancers[0].addr, balancers[1].addr);
    let mut third = Balancer::start().await;
    let backend = Registration::builder(both)
        .balancer(third.target())
        .service("greeter.test")
        .port(1)
        .start()
        .unwrap();
    let mut instances = Vec::new();
    let mut streams = Vec::new();
    for balancer in balancers.iter_mut().chain([&mut third]) {
        let (stream, said) = balancer.registered(5000).await;
        instances.push(said.instance);
        streams.push(stream);
    }
    instances.dedup();
    assert_eq!(instances.len(), 1);
    assert_eq!(backend.balancers().len(), 3);
}

#[tokio::test]
async fn a_backend_comes_back_to_a_balancer_that_was_lost() {
    let mut balancer = Balancer::start().await;
    let _backend = backend(&balancer).start().unwrap();
    let (_stream, first) = balancer.registered(5000).await;

    let addr = balancer.kill();
    let mut balancer = Balancer::start_at(addr).await;
    let (stream, second) = balancer.registered(5000).await;
    assert_eq!(first, second);

    // And to one that only ends the stream.
    stream.end();
    let (_stream, third) = balancer.registered(5000).await;
    assert_eq!(first, third);
}

#[tokio::test]
async fn a_balancer_that_comes_later_is_waited_for() {
    let balancer = Balancer::start().await;
    let target = balancer.target();
    let addr = balancer.kill();
    let backend = Registration::builder(target)
        .service("greeter.test")
        .port(1)
        .start()
        .unwrap();
    let mut balancer = Balancer::start_at(addr).await;
    let _stream = balancer.registered(5000).await;
    soon("registration", backend.registered()).await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_told_and_tried_again() {
    let mut balancer = Balancer::start().await;
    let backend = backend(&balancer).start().unwrap();
    let stream = balancer.stream().await;
    stream
        .refuse(Status::permission_denied("show a token"))
        .await;
    let refused = soon("an answer", backend.registered()).await;
    let Err(RegistrationError::Refused {
        balancer: by,
        reason,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(by, balancer.addr);
    assert!(reason.contains("show a token"), "{reason}");
    let _again = balancer.registered(5000).await;
    taken(&backend).await;
}

#[tokio::test]
async fn a_service_that_is_not_to_be_had_is_told_by_name() {
    let mut balancer = Balancer::start().await;
    let backend = backend(&balancer).service("typo.test").start().unwrap();
    let mut stream = balancer.stream().await;
    stream.registration().await;
    let result = |service: &str, outcome: Outcome, error: &str| ServiceResult {
        service: service.to_owned(),
        outcome: outcome.into(),
        error: error.to_owned(),
    };
    let results = |second| vec![result("greeter.test", Outcome::Accepted, ""), second];
    let unknown = result("typo.test", Outcome::UnknownService, "no such service");
    stream
        .answer(Answer::Registered(registered(results(unknown), 5000)))
        .await;
    let error = soon("an answer", backend.registered()).await.unwrap_err();
    assert!(error.to_string().contains("typo.test: no such service"));

    // Its operator adds it, and the balancer says so unasked.
    let accepted = result("typo.test", Outcome::Accepted, "");
    stream
        .answer(Answer::Registered(registered(results(accepted), 5000)))
        .await;
    taken(&backend).await;
}

#[tokio::test]
async fn another_weight_is_another_registration_on_the_same_stream() {
    let mut balancer = Balancer::start().await;
    let backend = backend(&balancer).start().unwrap();
    let (mut stream, _) = balancer.registered(5000).await;
    backend.set_weight(7.0).unwrap();
    match stream.next_but_load().await {
        Some(Message::Registration(again)) => assert_eq!(again.weight, Some(7.0)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_weight_out_of_range_is_an_error_and_changes_nothing() {
    let mut balancer = Balancer::start().await;
    let backend = backend(&balancer).start().unwrap();
    let (mut stream, _) = balancer.registered(100).await;
    for weight in [0.0, -1.0, 1e6 + 1.0, f64::NAN, f64::INFINITY] {
        let error = backend.set_weight(weight).unwrap_err().to_string();
        assert!(error.contains("out of range"), "{error}");
    }
    // Nothing but reports follows.
    stream.load().await;
    stream.load().await;
}

#[tokio::test]
async fn what_a_later_version_says_is_passed_over() {
    let mut balancer = Balancer::start().await;
    let _backend = backend(&balancer).start().unwrap();
    let mut stream = balancer.stream().await;
    let said = stream.registration().await;
    stream.answer_unknown().await;
    stream.accept(&said, 100).await;
    stream.load().await;
    stream.answer_unknown().await;
    stream.load().await;
}

#[tokio::test]
async fn a_backend_that_leaves_says_so_and_one_that_is_dropped_does_not() {
    let mut balancer = Balancer::start().await;
    let leaving = backend(&balancer).start().unwrap();
    let (mut stream, _) = balancer.registered(5000).await;
    let left = async {
        let said = stream.next_but_load().await;
        assert!(matches!(said, Some(Message::Leave(_))), "{said:?}");
        stream.end();
    };
    soon("good-bye", async { tokio::join!(leaving.leave(), left) }).await;
    // And nothing goes on behind it.
    for _ in 0..100 {
        assert_eq!(leaving.balancers(), []);
        tokio::task::yield_now().await;
    }

    let dropped = backend(&balancer).start().unwrap();
    let (mut stream, _) = balancer.registered(5000).await;
    soon("registration", dropped.registered()).await.unwrap();
    drop(dropped);
    assert_eq!(stream.next_but_load().await, None);
}

#[tokio::test]
async fn what_no_balancer_would_take_is_refused_at_once() {
    let build = || Registration::builder("static:127.0.0.1:9");
    let named = || build().service("greeter.test");
    for (wrong, builder) in [
        ("no service", build().port(1)),
        ("no port", named()),
        ("port 0", named().port(0)),
        ("weight 0", named().port(1).weight(0.0)),
        ("weight NaN", named().port(1).weight(f64::NAN)),
        ("instance", named().port(1).instance("with space")),
        ("63 bytes", named().port(1).zone("z".repeat(64))),
        ("token", named().port(1).token("two words")),
        (
            "port is missing after 10.0.0.5",
            Registration::builder("static:10.0.0.5")
                .service("a")
                .port(1),
        ),
        (
            "port is missing after lb",
            Registration::builder("static:lb,lb2:1")
                .service("a")
                .port(1),
        ),
        (
            "port is missing after 10.0.0.5",
            Registration::builder("10.0.0.5").service("a").port(1),
        ),
        (
            "not an address of TCP",
            Registration::builder("unix:/run/x").service("a").port(1),
        ),
        (
            "no URL",
            Registration::builder("http://x").service("a").port(1),
        ),
    ] {
        let error = builder.start().unwrap_err().to_string();
        assert!(error.contains(wrong), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn what_a_balancer_says_is_to_be_seen() {
    let mut balancer = Balancer::start().await;
    let backend = backend(&balancer).start().unwrap();
    let _stream = balancer.registered(5000).await;
    soon("registration", backend.registered()).await.unwrap();
    let statuses = backend.balancers();
    assert_eq!(statuses[0].addr, balancer.addr);
    let BalancerState::Registered(registered) = &statuses[0].state else {
        panic!("{statuses:?}");
    };
    assert_eq!(registered.address, "127.0.0.1:50051");
    assert_eq!(registered.report_interval.as_secs(), 5);
}

/// Waits until the reason why it is not registered says this; returns all of it.
async fn reason_has(backend: &Registration, text: &str) -> String {
    soon(text, async {
        loop {
            match backend.status().reason() {
                Some(reason) if reason.contains(text) => return reason,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_is_the_reason_why_it_is_not_registered() {
    let dns = NameServer::start(&[]);
    let target = format!("dns://{}/nope.test:9000", dns.addr);
    let backend = Registration::builder(&target)
        .service("greeter.test")
        .port(1)
        .start()
        .unwrap();
    reason_has(&backend, "nope.test has no addresses").await;
    let status = backend.status();
    assert_eq!(status.targets[0].target, target);
    assert!(!status.is_registered());
}

#[tokio::test]
async fn a_balancer_that_cannot_be_reached_is_the_reason_why_it_is_not_registered() {
    let balancer = Balancer::start().await;
    let target = balancer.target();
    let addr = balancer.kill();
    let backend = Registration::builder(target)
        .service("greeter.test")
        .port(1)
        .start()
        .unwrap();
    let reason = reason_has(&backend, "refused").await;
    assert!(reason.contains(&addr.to_string()), "{reason}");
    let mut balancer = Balancer::start_at(addr).await;
    let _stream = balancer.registered(5000).await;
    soon("registration", backend.registered()).await.unwrap();
    assert_eq!(backend.status().reason(), None);
}

#[tokio::test]
async fn a_name_without_a_port_needs_srv_and_says_so() {
    let dns = NameServer::start(&[("lb.test", "127.0.0.1")]);
    let backend = Registration::builder(format!("dns://{}/lb.test", dns.addr))
        .service("greeter.test")
        .port(1)
        .start()
        .unwrap();
    let reason = reason_has(&backend, "port is missing").await;
    assert!(
        reason.contains("SRV _grpclb._tcp.lb.test names no balancer"),
        "{reason}"
    );
    assert_eq!(backend.balancers(), []);
}

#[tokio::test]
async fn a_server_that_is_no_balancer_is_asked_whether_it_is_one() {
    let load = Load::new(Utilization::Set);
    let server = Server::start(&load, std::future::pending()).await;
    let backend = Registration::builder(format!("static:{}", server.addr))
        .service("greeter.test")
        .port(1)
        .start()
        .unwrap();
    let error = soon("an answer", backend.registered()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("is this the port of a balancer"), "{text}");
}

#[tokio::test]
async fn a_backend_hears_of_a_new_balancer_while_all_is_well_with_the_first() {
    // Both listen on the same port, as replicas behind one name do.
    let mut first = Balancer::start_at(([127, 0, 17, 1], 0).into()).await;
    let port = first.addr.port();
    let dns = NameServer::start(&[("lb.test", "127.0.17.1")]);
    let target = format!("dns://{}/lb.test:{port}", dns.addr);
    let backend = Registration::builder(target)
        .service("greeter.test")
        .port(1)
        .start()
        .unwrap();
    let (_stream, said) = first.registered(5000).await;
    soon("registration", backend.registered()).await.unwrap();
    let mut second = Balancer::start_at(([127, 0, 17, 2], port).into()).await;
    dns.set(&[("lb.test", "127.0.17.1"), ("lb.test", "127.0.17.2")]);
    let (_stream, again) = second.registered(5000).await;
    assert_eq!(said, again);
    assert_eq!(backend.balancers().len(), 2);
}

#[test]
fn outside_a_runtime_it_is_an_error_to_start() {
    let builder = Registration::builder("static:127.0.0.1:9")
        .service("a")
        .port(1);
    let error = builder.start().unwrap_err().to_string();
    assert!(error.contains("outside a tokio runtime"), "{error}");
}
