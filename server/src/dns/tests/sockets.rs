//! That sockets carry it, whatever else comes in on them.

use std::collections::BTreeSet;
use std::io;

use hickory_proto::op::{Message, ResponseCode};
use hickory_resolver::Resolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::super::Dns;
use super::running::*;
use super::*;

#[tokio::test]
async fn port_0_is_one_port_for_both_transports() {
    let running = Running::serving(&[]).await;
    assert_ne!(running.addr.port(), 0);
    running.assert_well().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = DnsConfig {
        listen: taken.local_addr().unwrap(),
        ..config()
    };
    let error = Dns::bind(&config).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_stub_resolver_finds_balancers_and_backends() {
    let running = Running::serving(&["10.0.0.1:50051", "10.0.0.2:50051"]).await;
    let mut server = NameServerConfig::udp_and_tcp(running.addr.ip());
    for connection in &mut server.connections {
        connection.port = running.addr.port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let provider = TokioRuntimeProvider::default();
    let resolver = Resolver::builder_with_config(config, provider);
    let resolver = resolver.build().unwrap();

    let srv = resolver.srv_lookup("_grpclb._tcp.greeter.test.");
    let srv = soon(srv).await.unwrap();
    assert_eq!(data(srv.answers()), ["lb.greeter.test.:9000"]);
    let ips = |found: &[Record]| -> BTreeSet<String> { data(found).into_iter().collect() };
    let balancers = soon(resolver.ipv4_lookup("lb.greeter.test."))
        .await
        .unwrap();
    let expected = ["10.9.0.1", "10.9.0.2"].map(str::to_owned).into();
    assert_eq!(ips(balancers.answers()), expected);
    let backends = soon(resolver.ipv4_lookup("hello.test.")).await.unwrap();
    let expected = ["10.0.0.1", "10.0.0.2"].map(str::to_owned).into();
    assert_eq!(ips(backends.answers()), expected);
    let config = resolver.txt_lookup("_grpc_config.greeter.test.");
    let config = soon(config).await.unwrap();
    assert!(data(config.answers())[0].starts_with("grpc_config=[{"));
}

#[tokio::test]
async fn backends_are_those_that_get_calls_on_the_shared_port() {
    let running = Running::serving(&["10.0.0.1:50051", "!10.0.0.2:50051"]).await;
    assert_eq!(running.addresses("greeter.test.").await, ["10.0.0.1"]);

    let service = running.catalogue.get(GREETER).unwrap();
    let version = service.snapshot().unwrap().version;
    running.contribute(GREETER, &["10.0.0.1:50051", "10.0.0.3:50052"]);
    soon(service.newer_than(version)).await;
    let reply = running.ask("greeter.test.", RecordType::A).await;
    assert!(reply.answers.is_empty(), "which port is meant is not known");
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
}

#[tokio::test]
async fn each_query_is_answered_by_the_next_one_first() {
    let running = Running::serving(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]).await;
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(running.addresses("greeter.test.").await.remove(0));
        // What clients ask in between does not shift the turns.
        running.ask("greeter.test.", RecordType::AAAA).await;
        running.addresses("lb.greeter.test.").await;
    }
    assert_eq!(first, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]);
}

#[tokio::test]
async fn names_follow_the_configuration() {
    let running = Running::new().await;
    let code = async |name| {
        let reply = running.ask(name, RecordType::SRV).await;
        reply.metadata.response_code
    };
    let (greeter, other) = ("_grpclb._tcp.greeter.test.", "_grpclb._tcp.other.test.");
    assert_eq!(code(greeter).await, ResponseCode::ServFail);
    running.configure(&[(GREETER, &[])]);
    assert_eq!(code(greeter).await, ResponseCode::NoError);
    assert_eq!(code(other).await, ResponseCode::Refused);
    let reply = running.ask("greeter.test.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    running.configure(&[("other.test", &[])]);
    assert_eq!(code(greeter).await, ResponseCode::Refused);
    assert_eq!(code(other).await, ResponseCode::NoError);
}

#[tokio::test]
async fn answers_follow_changed_settings() {
    let running = Running::serving(&[]).await;
    let before = running
        .ask("_grpclb._tcp.greeter.test.", RecordType::SRV)
        .await;
    assert_eq!(data(&before.answers), ["lb.greeter.test.:9000"]);
    let config = DnsConfig {
        ttl: Duration::from_secs(7),
        target: Some("balancer.test".to_owned()),
        ..config()
    };
    let settings = ZoneSettings::new(&config, &addrs(&["10.9.0.3:9100"])).unwrap();
    running.zone.send_replace(Arc::new(settings));
    let after = running
        .ask("_grpclb._tcp.greeter.test.", RecordType::SRV)
        .await;
    assert_eq!(data(&after.answers), ["balancer.test.:9100"]);
    assert_eq!(after.answers[0].ttl, 7);
    assert_eq!(running.addresses("balancer.test.").await, ["10.9.0.3"]);
}

#[tokio::test]
async fn the_serial_moves_with_what_is_answered() {
    let running = Running::serving(&["10.0.0.1:1", "10.0.0.2:1"]).await;
    let service = running.catalogue.get(GREETER).unwrap();
    let first = running.serial("greeter.test.").await;
    assert_eq!(running.serial("greeter.test.").await, first);

    let version = service.snapshot().unwrap().version;
    running.contribute(GREETER, &["10.0.0.1:1", "!10.0.0.2:1"]);
    soon(service.newer_than(version)).await;
    let drained = running.serial("greeter.test.").await;
    assert!(drained > first, "{drained} is not after {first}");

    // Another service changes nothing here.
    running.configure(&[(GREETER, &["hello.test"]), ("other.test", &[])]);
    running.ask("other.test.", RecordType::SOA).await;
    assert_eq!(running.serial("greeter.test.").await, drained);

    let settings = ZoneSettings::new(&config(), &addrs(&["10.9.0.4:9100"])).unwrap();
    running.zone.send_replace(Arc::new(settings));
    assert!(running.serial("greeter.test.").await > drained);
}

#[tokio::test]
async fn what_a_datagram_cannot_hold_comes_over_tcp() {
    let advertise: Vec<String> = (0..200).map(|n| format!("10.9.0.{n}:9000")).collect();
    let advertise: Vec<&str> = advertise.iter().map(String::as_str).collect();
    let running = Running::of(&config(), &advertise).await;
    running.configure(&[(GREETER, &[])]);
    let reply = running.ask("lb.greeter.test.", RecordType::A).await;
    assert!(reply.metadata.truncation);
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let query = asking("lb.greeter.test.", RecordType::A);
    let reply = ask_tcp(&mut stream, &query).await;
    assert_eq!(reply.answers.len(), 200);
}

#[tokio::test]
async fn one_connection_carries_many_queries_in_their_order() {
    let running = Running::serving(&[]).await;
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let queries: Vec<Message> = (0..20)
        .map(|_| asking("greeter.test.", RecordType::SOA))
        .collect();
    for query in &queries {
        send_tcp(&mut stream, &query.to_vec().unwrap()).await;
    }
    for query in &queries {
        let reply = receive_tcp(&mut stream).await;
        assert_eq!(reply.metadata.id, query.metadata.id);
        assert_eq!(reply.answers.len(), 1);
    }
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    let running = Running::serving(&[]).await;
    let mut random = fastrand::Rng::with_seed(1);
    // 65507 bytes is the largest datagram.
    for len in [0, 1, 11, 12, 13, 100, 1232, 4097, 65_507] {
        let mut garbage = vec![0; len];
        random.fill(&mut garbage);
        running.udp.send(&garbage).await.unwrap();
        if len > 3 {
            // A query, not a reply.
            garbage[2] = 0;
            running.udp.send(&garbage).await.unwrap();
        }
        running.assert_well().await;

        let mut stream = TcpStream::connect(running.addr).await.unwrap();
        send_tcp(&mut stream, &garbage).await;
        running.assert_well().await;
    }
    // Messages of no length.
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    stream.write_all(&[0; 64]).await.unwrap();
    running.assert_well().await;
    // A message that is never finished.
    let mut unfinished = TcpStream::connect(running.addr).await.unwrap();
    unfinished.write_all(&[0xff, 0xff, 0]).await.unwrap();
    running.assert_well().await;
}

#[tokio::test]
async fn counters_are_there_before_they_count() {
    let running = Running::new().await;
    let metrics = running.metrics();
    for line in [
        r#"dns_queries_total{type="SRV",rcode="noerror"} 0"#,
        r#"dns_cookies_total{cookie="valid"} 0"#,
        r#"dns_rate_limited_total{reply="badcookie"} 0"#,
        r#"dns_tcp_closed_total{reason="lifetime"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reply_comes_from_the_address_that_was_asked() {
    let config = DnsConfig {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..config()
    };
    let mut running = Running::of(&config, &ADVERTISED).await;
    running.configure(&[(GREETER, &[])]);
    // Not the one that the kernel would choose to answer 127.0.0.1 from.
    running.udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let asked = ("127.0.0.2", running.addr.port());
    running.udp.connect(asked).await.unwrap();
    let reply = running.ask("lb.greeter.test.", RecordType::A).await;
    assert_eq!(reply.answers.len(), 2);
}

#[tokio::test]
async fn a_burst_of_queries_is_answered_one_by_one() {
    let running = Running::serving(&[]).await;
    let queries: Vec<Message> = (0..100)
        .map(|_| asking("greeter.test.", RecordType::SOA))
        .collect();
    for query in &queries {
        running.udp.send(&query.to_vec().unwrap()).await.unwrap();
    }
    let mut unanswered: BTreeSet<u16> = queries.iter().map(|q| q.metadata.id).collect();
    let mut buffer = [0; 512];
    while !unanswered.is_empty() {
        let len = soon(running.udp.recv(&mut buffer)).await.unwrap();
        let reply = Message::from_vec(&buffer[..len]).unwrap();
        unanswered.remove(&reply.metadata.id);
    }
}

#[tokio::test]
async fn queries_are_counted_under_a_bounded_set_of_labels() {
    let running = Running::serving(&[]).await;
    running.ask("lb.greeter.test.", RecordType::A).await;
    running
        .ask("a.greeter.test.", RecordType::Unknown(999))
        .await;
    running.ask("b.example.", RecordType::ANY).await;
    running.udp.send(b"short").await.unwrap();
    running.ask("lb.greeter.test.", RecordType::A).await;
    let metrics = running.metrics();
    for line in [
        r#"dns_queries_total{type="A",rcode="noerror"} 2"#,
        r#"dns_queries_total{type="other",rcode="nxdomain"} 1"#,
        r#"dns_queries_total{type="other",rcode="refused"} 1"#,
        r#"dns_queries_total{type="other",rcode="dropped"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("example"));
}

#[tokio::test]
async fn shutdown_ends_it_and_its_connections() {
    let running = Running::serving(&[]).await;
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let query = asking("lb.greeter.test.", RecordType::A);
    ask_tcp(&mut stream, &query).await;
    running.shutdown.cancel();
    soon(running.task).await.unwrap().unwrap();
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest))
        .await
        .unwrap_or_default();
    // The port is free again, for both.
    let config = DnsConfig {
        listen: running.addr,
        ..config()
    };
    Dns::bind(&config).await.unwrap();
}
