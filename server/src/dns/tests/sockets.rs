//! That sockets carry it, whatever else comes in on them.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;

use hickory_proto::op::{Message, ResponseCode};
use hickory_resolver::Resolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::{Dns, DnsMetrics};
use super::*;
use crate::fleet::{Fleet, FleetConfig, FleetMetrics, ServiceEntry};
use crate::plan::{Contribution, MemberFields, ServiceSettings, Source};

const GREETER: &str = "greeter.test";
const ADVERTISED: [&str; 2] = ["10.9.0.1:9000", "10.9.0.2:9000"];

/// A server that runs, and a client's sockets to it.
struct Running {
    addr: SocketAddr,
    fleet: Arc<Fleet>,
    registry: Registry,
    udp: UdpSocket,
    shutdown: CancellationToken,
    zone: watch::Sender<Arc<ZoneSettings>>,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    async fn new() -> Self {
        Self::of(&config(), &ADVERTISED).await
    }

    async fn of(config: &DnsConfig, advertise: &[&str]) -> Self {
        let dns = Dns::bind(config).await.unwrap();
        let addr = dns.local_addr().unwrap();
        let fleet = Fleet::new(FleetMetrics::default());
        let mut registry = Registry::default();
        let metrics = DnsMetrics::register(&mut registry);
        let shutdown = CancellationToken::new();
        let zone = watch::Sender::default();
        let task = tokio::spawn({
            let (fleet, shutdown) = (Arc::clone(&fleet), shutdown.clone());
            let settings = ZoneSettings::new(config, &addrs(advertise)).unwrap();
            zone.send_replace(Arc::new(settings));
            let followed = zone.subscribe();
            async move { dns.run(fleet, followed, metrics, shutdown).await }
        });
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.connect(("127.0.0.1", addr.port())).await.unwrap();
        Self {
            addr,
            fleet,
            registry,
            udp,
            shutdown,
            zone,
            task,
        }
    }

    /// A fleet of one service with these backends, published.
    async fn serving(backends: &[&str]) -> Self {
        let running = Self::new().await;
        running.configure(&[(GREETER, &["hello.test"])]);
        running.contribute(GREETER, backends);
        running.fleet.get(GREETER).unwrap().ready().await;
        running
    }

    fn configure(&self, services: &[(&str, &[&str])]) {
        let name = |text: &&str| ServiceName::parse(text).unwrap();
        let entry = |(service, aliases): &(&str, &[&str])| ServiceEntry {
            name: name(service),
            aliases: aliases.iter().map(name).collect(),
            settings: ServiceSettings::default(),
            sources: [Source::File].into(),
        };
        self.fleet.configure(FleetConfig {
            services: services.iter().map(entry).collect(),
        });
    }

    /// Backends; one with a `!` before it is drained.
    fn contribute(&self, service: &str, backends: &[&str]) {
        let members = backends.iter().map(|text| {
            let fields = MemberFields {
                drain: Some(text.starts_with('!')),
                ..MemberFields::default()
            };
            (text.trim_start_matches('!').parse().unwrap(), fields)
        });
        let contribution = members.collect::<Contribution>();
        let service = ServiceName::parse(service).unwrap();
        self.fleet.contribute(&service, Source::File, contribution);
    }

    /// Asks over UDP.
    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let message = asking(name, kind);
        self.udp.send(&message.to_vec().unwrap()).await.unwrap();
        let mut buffer = [0; 4096];
        loop {
            let len = soon(self.udp.recv(&mut buffer)).await.unwrap();
            // A reply to garbage may come first.
            let Ok(reply) = Message::from_vec(&buffer[..len]) else {
                continue;
            };
            if reply.metadata.id == message.metadata.id && !reply.queries.is_empty() {
                return reply;
            }
        }
    }

    async fn addresses(&self, name: &str) -> Vec<String> {
        data(&self.ask(name, RecordType::A).await.answers)
    }

    async fn serial(&self, zone: &str) -> u32 {
        let reply = self.ask(zone, RecordType::SOA).await;
        match &reply.answers[0].data {
            RData::SOA(soa) => soa.serial,
            other => panic!("{other} is no SOA"),
        }
    }

    async fn assert_well(&self) {
        let reply = self.ask("lb.greeter.test.", RecordType::A).await;
        assert_eq!(reply.answers.len(), 2);
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let query = asking("lb.greeter.test.", RecordType::A);
        let reply = ask_tcp(&mut stream, &query).await;
        assert_eq!(reply.answers.len(), 2);
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

fn asking(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(query(name, kind));
    message
}

/// A test that hangs says where.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.unwrap()
}

async fn send_tcp(stream: &mut TcpStream, message: &[u8]) {
    let len = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream
        .write_all(&[&len[..], message].concat())
        .await
        .unwrap();
}

async fn receive_tcp(stream: &mut TcpStream) -> Message {
    let len = soon(stream.read_u16()).await.unwrap();
    let mut bytes = vec![0; len.into()];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

async fn ask_tcp(stream: &mut TcpStream, message: &Message) -> Message {
    send_tcp(stream, &message.to_vec().unwrap()).await;
    receive_tcp(stream).await
}

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

    let service = running.fleet.get(GREETER).unwrap();
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
    let service = running.fleet.get(GREETER).unwrap();
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

/// A connection from 127.0.0.`last` that has had an answer.
#[cfg(target_os = "linux")]
async fn held(running: &Running, last: usize) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    let from = format!("127.0.0.{last}:0").parse().unwrap();
    socket.bind(from).unwrap();
    let mut stream = soon(socket.connect(running.addr)).await.unwrap();
    let query = asking("lb.greeter.test.", RecordType::A);
    assert_eq!(ask_tcp(&mut stream, &query).await.answers.len(), 2);
    stream
}

#[cfg(target_os = "linux")]
async fn assert_closed(stream: &mut TcpStream) {
    let end = soon(stream.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

// Only Linux has all of 127.0.0.0/8 on its loopback.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_holds_most_connections_makes_room_for_a_newcomer() {
    let running = Running::serving(&[]).await;
    let query = asking("lb.greeter.test.", RecordType::A);
    let few = held(&running, 9).await;
    let mut many = Vec::new();
    let all = config().tcp_connections as usize;
    for at in 0..all - 1 {
        many.push(held(&running, 1 + at % 4).await);
    }
    let newcomer = held(&running, 10).await;
    // The last of the four has one less; of the others the first was idle longest.
    assert_closed(&mut many[0]).await;
    let last = many.swap_remove(all - 2);
    let second = many.swap_remove(1);
    for mut stream in [few, newcomer, second, last] {
        assert_eq!(ask_tcp(&mut stream, &query).await.answers.len(), 2);
    }
    let metrics = running.metrics();
    let evicted = r#"dns_tcp_closed_total{reason="evicted"} 1"#;
    assert!(metrics.contains(evicted), "{metrics}");
}

#[tokio::test]
async fn a_query_that_is_too_long_ends_its_connection() {
    let running = Running::serving(&[]).await;
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    stream.write_all(&4097_u16.to_be_bytes()).await.unwrap();
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap(), 0);
    running.assert_well().await;
}

#[tokio::test]
async fn a_flood_gets_no_more_than_its_networks_share_and_tcp_the_rest() {
    let config = DnsConfig {
        responses_per_second: 5,
        ..config()
    };
    let running = Running::of(&config, &ADVERTISED).await;
    running.configure(&[(GREETER, &[])]);
    let mut truncated = 0;
    for _ in 0..500 {
        let reply = running.ask("lb.greeter.test.", RecordType::A).await;
        truncated += u32::from(reply.metadata.truncation);
    }
    assert!(truncated > 250, "{truncated}");
    let mut stream = TcpStream::connect(running.addr).await.unwrap();
    let query = asking("lb.greeter.test.", RecordType::A);
    assert_eq!(ask_tcp(&mut stream, &query).await.answers.len(), 2);
    let metrics = running.metrics();
    let limited = format!(r#"dns_rate_limited_total{{reply="truncated"}} {truncated}"#);
    assert!(metrics.contains(&limited), "{limited} is not in\n{metrics}");
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
