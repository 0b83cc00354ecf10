//! Backends, and a balancer that lists them: as many as a client's name for its
//! service says, with or without drops.

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::Result;
use lookaside_proto::addr::ip_bytes;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::load_balancer_server::{LoadBalancer, LoadBalancerServer};
use lookaside_proto::lb_v1::{LoadBalanceRequest, LoadBalanceResponse, Server, ServerList};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _, StreamMap};
use tonic::{Request, Response, Status, Streaming};

use super::{DROP_EVERY, ENTRIES};
use crate::backends::initial_response;

/// What runs until it is dropped.
pub(super) struct Servers {
    /// Where the balancer listens.
    pub(super) balancer: SocketAddr,
    pub(super) backends: Vec<SocketAddr>,
    /// Holds what serves, and runs the clients, which need it only when they
    /// connect.
    pub(super) runtime: Runtime,
    _tasks: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Servers {
    pub(super) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let mut tasks = JoinSet::new();
        let (balancer, backends) = runtime.block_on(async {
            let mut backends = Vec::new();
            let mut incoming = StreamMap::new();
            for at in 0..ENTRIES.into_iter().max().unwrap_or_default() {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                backends.push(listener.local_addr()?);
                incoming.insert(at, TcpListenerStream::new(listener));
            }
            let (_, health) = tonic_health::server::health_reporter();
            tasks.spawn(
                tonic::transport::Server::builder()
                    .add_service(health)
                    .serve_with_incoming(incoming.map(|(_, connection)| connection)),
            );
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let balancer = listener.local_addr()?;
            let lists = LoadBalancerServer::new(Lists(backends.clone()));
            tasks.spawn(
                tonic::transport::Server::builder()
                    .add_service(lists)
                    .serve_with_incoming(TcpListenerStream::new(listener)),
            );
            anyhow::Ok((balancer, backends))
        })?;
        Ok(Self {
            balancer,
            backends,
            runtime,
            _tasks: tasks,
        })
    }
}

/// The name by which a client asks for a list.
pub(super) fn service(entries: usize, drops: bool) -> String {
    let drops = if drops { "-drops" } else { "" };
    format!("pick-{entries}{drops}")
}

struct Lists(Vec<SocketAddr>);

impl Lists {
    fn list(&self, name: &str) -> Option<ServerList> {
        let drops = [false, true];
        let known = drops.map(|drops| ENTRIES.map(|entries| (entries, drops)));
        let mut known = known.as_flattened().iter();
        // Clients may send the port that they had to give.
        let name = name.split(':').next().unwrap_or_default();
        let (entries, drops) = known.find(|(entries, drops)| service(*entries, *drops) == name)?;
        let backends = self.0.iter().take(*entries).enumerate();
        let servers = backends.map(|(at, addr)| match *drops && (at + 1) % DROP_EVERY == 0 {
            true => Server {
                load_balance_token: "rate".to_owned(),
                drop: true,
                ..Server::default()
            },
            false => Server {
                ip_address: ip_bytes(addr.ip()),
                port: i32::from(addr.port()),
                load_balance_token: format!("token{at:03}"),
                drop: false,
            },
        });
        Some(ServerList {
            servers: servers.collect(),
        })
    }
}

#[tonic::async_trait]
impl LoadBalancer for Lists {
    type BalanceLoadStream =
        Pin<Box<dyn Stream<Item = Result<LoadBalanceResponse, Status>> + Send>>;

    async fn balance_load(
        &self,
        request: Request<Streaming<LoadBalanceRequest>>,
    ) -> Result<Response<Self::BalanceLoadStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap_or_default();
        let Some(LoadBalanceRequestType::InitialRequest(first)) = first.load_balance_request_type
        else {
            return Err(Status::invalid_argument("not an initial request"));
        };
        let list = self.list(&first.name);
        let list = list.ok_or_else(|| Status::not_found(format!("no list {:?}", first.name)))?;
        let list = LoadBalanceResponse {
            load_balance_response_type: Some(LoadBalanceResponseType::ServerList(list)),
        };
        let answers = tokio_stream::iter([Ok(initial_response()), Ok(list)]);
        // Reports are read, and the stream ends with the client.
        let reports = requests.filter_map(|_| None);
        Ok(Response::new(Box::pin(answers.chain(reports))))
    }
}
