//! A server that runs, for tests that ask it.

use std::future::Future;
use std::io;

use hickory_proto::op::Message;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::{Dns, DnsMetrics};
use super::*;
use crate::catalogue::{Catalogue, CatalogueConfig, CatalogueMetrics, ServiceEntry};
use lookaside_core::plan::{Contribution, MemberFields, ServiceSettings, SourceKind};

pub(super) const GREETER: &str = "greeter.test";
pub(super) const ADVERTISED: [&str; 2] = ["10.9.0.1:9000", "10.9.0.2:9000"];

/// A server that runs, and a client's sockets to it.
pub(super) struct Running {
    pub(super) addr: SocketAddr,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) registry: Registry,
    pub(super) udp: UdpSocket,
    pub(super) shutdown: CancellationToken,
    pub(super) zone: watch::Sender<Arc<ZoneSettings>>,
    pub(super) task: JoinHandle<io::Result<()>>,
}

impl Running {
    pub(super) async fn new() -> Self {
        Self::of(&config(), &ADVERTISED).await
    }

    pub(super) async fn of(config: &DnsConfig, advertise: &[&str]) -> Self {
        let dns = Dns::bind(config).await.unwrap();
        let addr = dns.local_addr().unwrap();
        let catalogue = Catalogue::new(CatalogueMetrics::default());
        let mut registry = Registry::default();
        let metrics = DnsMetrics::register(&mut registry);
        let shutdown = CancellationToken::new();
        let zone = watch::Sender::default();
        let task = tokio::spawn({
            let (catalogue, shutdown) = (Arc::clone(&catalogue), shutdown.clone());
            let settings = ZoneSettings::new(config, &addrs(advertise)).unwrap();
            zone.send_replace(Arc::new(settings));
            let followed = zone.subscribe();
            async move { dns.run(catalogue, followed, metrics, shutdown).await }
        });
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.connect(("127.0.0.1", addr.port())).await.unwrap();
        Self {
            addr,
            catalogue,
            registry,
            udp,
            shutdown,
            zone,
            task,
        }
    }

    /// A catalogue of one service with these backends, published.
    pub(super) async fn serving(backends: &[&str]) -> Self {
        let running = Self::new().await;
        running.configure(&[(GREETER, &["hello.test"])]);
        running.contribute(GREETER, backends);
        running.catalogue.get(GREETER).unwrap().ready().await;
        running
    }

    pub(super) fn configure(&self, services: &[(&str, &[&str])]) {
        let name = |text: &&str| ServiceName::parse(text).unwrap();
        let entry = |(service, aliases): &(&str, &[&str])| ServiceEntry {
            name: name(service),
            aliases: aliases.iter().map(name).collect(),
            settings: ServiceSettings::default(),
            sources: [SourceKind::File.into()].into(),
        };
        self.catalogue.configure(CatalogueConfig {
            services: services.iter().map(entry).collect(),
        });
    }

    /// Backends; one with a `!` before it is drained.
    pub(super) fn contribute(&self, service: &str, backends: &[&str]) {
        let members = backends.iter().map(|text| {
            let fields = MemberFields {
                drain: Some(text.starts_with('!')),
                ..MemberFields::default()
            };
            (text.trim_start_matches('!').parse().unwrap(), fields)
        });
        let contribution = members.collect::<Contribution>();
        let service = ServiceName::parse(service).unwrap();
        self.catalogue
            .contribute(&service, SourceKind::File, contribution);
    }

    /// Asks over UDP.
    pub(super) async fn ask(&self, name: &str, kind: RecordType) -> Message {
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

    pub(super) async fn addresses(&self, name: &str) -> Vec<String> {
        data(&self.ask(name, RecordType::A).await.answers)
    }

    pub(super) async fn serial(&self, zone: &str) -> u32 {
        let reply = self.ask(zone, RecordType::SOA).await;
        match &reply.answers[0].data {
            RData::SOA(soa) => soa.serial,
            other => panic!("{other} is no SOA"),
        }
    }

    pub(super) async fn assert_well(&self) {
        let reply = self.ask("lb.greeter.test.", RecordType::A).await;
        assert_eq!(reply.answers.len(), 2);
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let query = asking("lb.greeter.test.", RecordType::A);
        let reply = ask_tcp(&mut stream, &query).await;
        assert_eq!(reply.answers.len(), 2);
    }

    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

pub(super) fn asking(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(query(name, kind));
    message
}

/// A test that hangs says where.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.unwrap()
}

pub(super) async fn send_tcp(stream: &mut TcpStream, message: &[u8]) {
    let len = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream
        .write_all(&[&len[..], message].concat())
        .await
        .unwrap();
}

pub(super) async fn receive_tcp(stream: &mut TcpStream) -> Message {
    let len = soon(stream.read_u16()).await.unwrap();
    let mut bytes = vec![0; len.into()];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

pub(super) async fn ask_tcp(stream: &mut TcpStream, message: &Message) -> Message {
    send_tcp(stream, &message.to_vec().unwrap()).await;
    receive_tcp(stream).await
}
