//! The promises of the main port, over real sockets.

mod lifecycle;
mod lists;
mod raw;
mod refusals;
mod reports;
mod side;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use lookaside_proto::lb_v1::{
    ClientStats, InitialLoadBalanceRequest, LoadBalanceRequest, LoadBalanceResponse, ServerList,
};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::*;
use crate::catalogue::{Catalogue, CatalogueConfig, CatalogueMetrics, Service, ServiceEntry};
use crate::net::{Limits, Listener, NetMetrics, Options, Shutdown, serve};
use lookaside_core::model::{BackendAddr, DropCategory, DropShare, ServiceName, Weight};
use lookaside_core::plan::{Contribution, MemberFields, ServiceSettings, SourceKind};

/// The gauge of the streams that follow it.
pub(super) const STREAMS: &str = "streams{service=\"greeter.test\"}";

pub(super) const GREETER: &str = "greeter.test";

/// Long enough for anything that should happen, and no test waits for it.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// A balancer on a port of its own, in this process.
pub(super) struct Balancer {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) method: BalanceLoad,
    pub(super) addr: SocketAddr,
    pub(super) registry: Registry,
    pub(super) shutdown: CancellationToken,
    pub(super) served: JoinHandle<std::io::Result<()>>,
}

/// How a test's balancer differs from the usual one.
pub(super) struct Setting {
    pub(super) limits: Limits,
    pub(super) streams: StreamLimits,
    pub(super) deadline: Duration,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            limits: Limits::for_descriptors(4096),
            streams: StreamLimits::default(),
            deadline: SOON,
        }
    }
}

impl Balancer {
    pub(super) fn start() -> Self {
        Self::with(Setting::default())
    }

    pub(super) fn with(setting: Setting) -> Self {
        let mut registry = Registry::default();
        let catalogue = Catalogue::new(CatalogueMetrics::default());
        let balance_load = BalanceLoad::new(
            Arc::clone(&catalogue),
            Duration::from_secs(5),
            setting.streams,
            BalanceLoadMetrics::register(&mut registry),
        );
        let (_, health) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(lookaside_proto::FILE_DESCRIPTORS)
            .build_v1();
        let routes = tonic::service::Routes::new(health).add_service(reflection.unwrap());
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr();
        let shutdown = CancellationToken::new();
        let options = Options {
            tls: None,
            limits: setting.limits,
            shutdown: Shutdown {
                token: shutdown.clone(),
                goaway_over: Duration::ZERO,
                deadline: setting.deadline,
            },
            metrics: NetMetrics::register(&mut registry),
        };
        let served = tokio::spawn(serve(
            listener,
            Dispatch::new(balance_load.clone(), routes),
            options,
        ));
        Self {
            catalogue,
            method: balance_load,
            addr,
            registry,
            shutdown,
            served,
        }
    }

    /// Starts with one service and its backends, `10.0.0.<host>:80` by weight.
    pub(super) fn serving(backends: &[(u8, f64)]) -> Self {
        let balancer = Self::start();
        balancer.configure(&[(GREETER, &[])]);
        balancer.set(GREETER, backends);
        balancer
    }

    /// Makes these the services, each with its drops.
    pub(super) fn configure(&self, services: &[(&str, &[(&str, f64)])]) {
        let services = services.iter().map(|(service, drops)| {
            let drops = drops.iter().map(|(category, share)| {
                let category = DropCategory::new(category).unwrap();
                DropShare::new(category, *share).unwrap()
            });
            ServiceEntry {
                name: name(service),
                aliases: Vec::new(),
                settings: ServiceSettings {
                    drops: drops.collect(),
                    fallback_port: None,
                    subset: Some(2000),
                    ..ServiceSettings::default()
                },
                sources: [SourceKind::File.into()].into(),
            }
        });
        self.catalogue.configure(CatalogueConfig {
            services: services.collect(),
        });
    }

    /// Makes these the backends of a service.
    pub(super) fn set(&self, service: &str, backends: &[(u8, f64)]) {
        let member = |(host, weight): &(u8, f64)| {
            let fields = MemberFields {
                weight: Some(Weight::new(*weight).unwrap()),
                ..MemberFields::default()
            };
            (backend(*host), fields)
        };
        self.contribute(service, backends.iter().map(member).collect());
    }

    pub(super) fn contribute(&self, service: &str, members: BTreeMap<BackendAddr, MemberFields>) {
        let contribution = Contribution {
            members: Arc::new(members),
        };
        self.catalogue
            .contribute(&name(service), SourceKind::File, contribution);
    }

    /// A gRPC channel to it.
    pub(super) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.addr)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// A stream for `service`, which must be granted, up to its
    /// `initial_response`.
    pub(super) async fn follow(&self, service: &str) -> Follower {
        let (mut follower, opened) = Follower::open(self.channel().await, service).await;
        follower.responses = Some(opened.unwrap());
        match follower.next().await.unwrap() {
            LoadBalanceResponseType::InitialResponse(_) => follower,
            other => panic!("not initial_response: {other:?}"),
        }
    }

    /// What is said to a client that asks for `service` and should not get it.
    pub(super) async fn refusal(&self, service: &str) -> Status {
        let (_follower, opened) = Follower::open(self.channel().await, service).await;
        opened.unwrap_err()
    }

    /// Streams that follow a service.
    pub(super) fn streams(&self, service: &Service) -> usize {
        self.method.0.deliveries.streams(service)
    }

    /// Streams that there are, begun or not.
    pub(super) fn held(&self) -> usize {
        self.method.0.admission.held()
    }

    /// Waits until something is so that nobody reports.
    pub(super) async fn until(&self, mut so: impl FnMut(&Self) -> bool) {
        let until = async {
            while !so(self) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, until).await.expect("in time");
    }

    /// The value of a metric's line, as `streams{service="greeter.test"}`.
    pub(super) fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text
            .lines()
            .find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

/// A client of one `BalanceLoad` stream.
pub(super) struct Follower {
    pub(super) requests: mpsc::UnboundedSender<LoadBalanceRequest>,
    responses: Option<Streaming<LoadBalanceResponse>>,
}

impl Follower {
    pub(super) async fn open(
        channel: Channel,
        service: &str,
    ) -> (Self, Result<Streaming<LoadBalanceResponse>, Status>) {
        let (requests, receiver) = mpsc::unbounded_channel();
        let follower = Self {
            requests,
            responses: None,
        };
        follower.send(LoadBalanceRequestType::InitialRequest(
            InitialLoadBalanceRequest {
                name: service.to_owned(),
            },
        ));
        let request = Request::new(UnboundedReceiverStream::new(receiver));
        let opened = LoadBalancerClient::new(channel).balance_load(request).await;
        (follower, opened.map(tonic::Response::into_inner))
    }

    pub(super) fn send(&self, request: LoadBalanceRequestType) {
        let request = LoadBalanceRequest {
            load_balance_request_type: Some(request),
        };
        self.requests.send(request).unwrap();
    }

    pub(super) fn report(&self, stats: ClientStats) {
        self.send(LoadBalanceRequestType::ClientStats(stats));
    }

    /// The next message, or the status the stream ended with.
    pub(super) async fn next(&mut self) -> Result<LoadBalanceResponseType, Status> {
        let responses = self.responses.as_mut().unwrap();
        let message = tokio::time::timeout(SOON, responses.message()).await;
        let message = message.expect("a message in time")?;
        let message = message.ok_or_else(|| Status::ok("ended"))?;
        Ok(message.load_balance_response_type.unwrap())
    }

    pub(super) async fn list(&mut self) -> ServerList {
        match self.next().await.unwrap() {
            LoadBalanceResponseType::ServerList(list) => list,
            other => panic!("not a list: {other:?}"),
        }
    }
}

pub(super) fn name(name: &str) -> ServiceName {
    ServiceName::parse(name).unwrap()
}

pub(super) fn backend(host: u8) -> BackendAddr {
    format!("10.0.0.{host}:80").parse().unwrap()
}

/// How often each backend stands in a list, by the last byte of its address.
pub(super) fn counts(list: &ServerList) -> Vec<(u8, usize)> {
    let mut counts = BTreeMap::new();
    for server in list.servers.iter().filter(|server| !server.drop) {
        assert_eq!(server.port, 80);
        *counts.entry(server.ip_address[3]).or_default() += 1;
    }
    counts.into_iter().collect()
}
