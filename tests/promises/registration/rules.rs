//! Who may register what.

use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::registration::Where;
use lookaside_tests::Follower;
use tonic::Code;

use super::*;

#[tokio::test]
async fn who_may_not_register_is_told_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "# ours\nsecret\n").unwrap();
    let tokens = tokens.display();
    let named = |name: &str, more: &str| format!("[[service]]\nname = \"{name}\"\n{more}\n");
    let balancer = balancer(
        &[
            named("closed.test", ""),
            named("tokens.test", &format!("register = {{ token_file = \"{tokens}\" }}")),
            named(
                "any.test",
                &format!("register = {{ token_file = \"{tokens}\", any_address = true }}"),
            ),
            named("ten.test", "register = { cidrs = [\"10.0.0.0/8\"] }"),
            named(
                "dial.test",
                &format!("cidrs = [\"10.0.0.0/8\"]\nregister = {{ token_file = \"{tokens}\", any_address = true }}"),
            ),
            named(
                "ten-tokens.test",
                &format!("register = {{ token_file = \"{tokens}\", cidrs = [\"10.0.0.0/8\"], any_address = true }}"),
            ),
        ]
        .concat(),
    )
    .await;
    let channel = channel(balancer.addr()).await;
    let refused = |service: &'static str, r#where: Where, token: &'static str| {
        let channel = channel.clone();
        async move {
            let said = pb::Registration {
                services: vec![service.to_owned()],
                ..said(r#where, "a")
            };
            match Raw::open(&channel, said, token).await {
                Ok(_) => panic!("{service} was not refused"),
                Err(status) => (status.code(), status.message().to_owned()),
            }
        }
    };
    for (service, r#where, token, code, wanted) in [
        (
            "unknown.test",
            Where::Port(1),
            "",
            Code::NotFound,
            "no such service",
        ),
        (
            "closed.test",
            Where::Port(1),
            "",
            Code::PermissionDenied,
            "write register =",
        ),
        (
            "tokens.test",
            Where::Port(1),
            "",
            Code::PermissionDenied,
            "Bearer <token>",
        ),
        (
            "tokens.test",
            Where::Port(1),
            "secre",
            Code::PermissionDenied,
            "Bearer <token>",
        ),
        (
            "tokens.test",
            at("127.0.0.2:1"),
            "secret",
            Code::PermissionDenied,
            "comes from, 127.0.0.1",
        ),
        (
            "any.test",
            at("169.254.169.254:80"),
            "secret",
            Code::PermissionDenied,
            "link-local",
        ),
        (
            "any.test",
            at("[fe80::1]:80"),
            "secret",
            Code::PermissionDenied,
            "link-local",
        ),
        (
            "any.test",
            at("224.0.0.1:80"),
            "secret",
            Code::PermissionDenied,
            "multicast",
        ),
        (
            "any.test",
            at("0.0.0.0:80"),
            "secret",
            Code::InvalidArgument,
            "names no host",
        ),
        (
            "ten.test",
            Where::Port(1),
            "",
            Code::PermissionDenied,
            "none of the service's",
        ),
        (
            "dial.test",
            at("11.0.0.1:1"),
            "secret",
            Code::PermissionDenied,
            "none of the service's cidrs",
        ),
        (
            "ten-tokens.test",
            at("11.0.0.1:1"),
            "secret",
            Code::PermissionDenied,
            "none of the",
        ),
        (
            "tokens.test",
            Where::Port(0),
            "secret",
            Code::InvalidArgument,
            "port 0",
        ),
    ] {
        let (found, message) = refused(service, r#where, token).await;
        assert_eq!(found, code, "{service}: {message}");
        assert!(message.contains(wanted), "{service}: {message}");
    }
    for (service, r#where) in [
        ("tokens.test", Where::Port(1)),
        ("any.test", at("10.9.8.7:80")),
        ("ten-tokens.test", at("10.9.8.7:80")),
        ("dial.test", at("10.9.8.7:80")),
    ] {
        let said = pb::Registration {
            services: vec![service.to_owned()],
            ..said(r#where, "a")
        };
        Raw::open(&channel, said, "secret").await.unwrap();
    }
    balancer.stop().await;
}

#[tokio::test]
async fn a_backend_gets_those_of_its_services_that_it_may_have() {
    let balancer = balancer(&open_service(LOCAL)).await;
    let channel = channel(balancer.addr()).await;
    let both = pb::Registration {
        services: vec![
            format!("{}:443", GREETER.to_uppercase()),
            "typo.test".to_owned(),
        ],
        ..said(Where::Port(81), "a")
    };
    let mut stream = Raw::open(&channel, both, "").await.unwrap();
    let results = stream.registered().await.services;
    assert_eq!(results[0].outcome(), pb::Outcome::Accepted);
    assert_eq!(results[1].outcome(), pb::Outcome::UnknownService);
    assert!(results[1].error.contains("add it to lookaside.toml"));

    // The operator adds it: the backend hears of it unasked.
    let typo = format!("[[service]]\nname = \"typo.test\"\nregister = {LOCAL}\n");
    let listen = balancer.addr().to_string();
    balancer.edit_whole(&(tables(&listen) + &open_service(LOCAL) + &typo));
    let results = stream.registered().await.services;
    assert_eq!(results[1].outcome(), pb::Outcome::Accepted);

    // And closes the first, which keeps a backend of the file: an edit that would leave it
    // without any is refused.
    let listed = "backends = [{ address = \"127.0.0.1:82\" }]";
    let closed = format!("[[service]]\nname = \"{GREETER}\"\n{listed}\n");
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    until_listed(&mut follower, &[local(81)]).await;
    balancer.edit_whole(&(tables(&listen) + &closed + &typo));
    let results = stream.registered().await.services;
    assert_eq!(results[0].outcome(), pb::Outcome::Forbidden);
    until_listed(&mut follower, &[local(82)]).await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_backend_reports_as_often_as_its_service_asks_for_load() {
    let load = "load = { kind = \"orca\", interval = \"7s\" }\n";
    let balancer = balancer(&(open_service(LOCAL) + load)).await;
    let channel = channel(balancer.addr()).await;
    let mut stream = Raw::open(&channel, said(Where::Port(81), "a"), "")
        .await
        .unwrap();
    let told = stream.registered().await;
    assert_eq!(told.report_interval.unwrap().seconds, 7);
    assert_eq!(told.lease.unwrap().seconds, 21);

    // The operator takes that back: the backend hears of it.
    let listen = balancer.addr().to_string();
    balancer.edit_whole(&(tables(&listen) + &open_service(LOCAL)));
    let told = stream.registered().await;
    assert_eq!(told.report_interval.unwrap().seconds, 1);
    assert_eq!(told.lease.unwrap().seconds, 3);
    balancer.stop().await;
}
