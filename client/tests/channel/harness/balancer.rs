//! A balancer that does what the test says, message by message.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use lookaside_proto::addr::ip_bytes;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::load_balancer_server::{LoadBalancer, LoadBalancerServer};
use lookaside_proto::lb_v1::{
    ClientStats, FallbackResponse, InitialLoadBalanceResponse, LoadBalanceRequest,
    LoadBalanceResponse, Server, ServerList,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use tower::util::MapRequestLayer;

use super::{ANY_PORT, Process, SeenAuthority, see_authority};

pub(crate) struct Balancer {
    pub(crate) addr: SocketAddr,
    process: Process,
    streams: mpsc::UnboundedReceiver<BalancerStream>,
}

impl Balancer {
    pub(crate) async fn start() -> Self {
        Self::start_at(ANY_PORT).await
    }

    pub(crate) async fn start_at(addr: SocketAddr) -> Self {
        let process = Process::new();
        let listener = process.listen(addr).await;
        let addr = listener.local_addr().unwrap();
        let (opened, streams) = mpsc::unbounded_channel();
        process.spawn(async move {
            tonic::transport::Server::builder()
                .layer(MapRequestLayer::new(see_authority))
                .add_service(LoadBalancerServer::new(Service(opened)))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            addr,
            process,
            streams,
        }
    }

    /// The next stream that a client opens. It is answered only by what the test
    /// sends.
    pub(crate) async fn accept(&mut self) -> BalancerStream {
        self.streams.recv().await.unwrap()
    }

    /// A stream that a client has opened already.
    #[cfg(feature = "tls")]
    pub(crate) fn try_accept(&mut self) -> Option<BalancerStream> {
        self.streams.try_recv().ok()
    }

    /// The next stream, past its handshake.
    pub(crate) async fn greet(&mut self) -> BalancerStream {
        self.greet_with(Duration::ZERO).await
    }

    /// The next stream, with reports at `interval`.
    pub(crate) async fn greet_with(&mut self, interval: Duration) -> BalancerStream {
        let mut stream = self.accept().await;
        stream.name().await;
        stream.initial(interval);
        stream
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }
}

/// The balancer's end of one stream. It ends with OK when dropped.
pub(crate) struct BalancerStream {
    requests: Streaming<LoadBalanceRequest>,
    responses: mpsc::UnboundedSender<Result<LoadBalanceResponse, Status>>,
    pub(crate) authority: String,
}

impl BalancerStream {
    pub(crate) fn send(&self, response: LoadBalanceResponseType) {
        let response = LoadBalanceResponse {
            load_balance_response_type: Some(response),
        };
        self.responses.send(Ok(response)).unwrap();
    }

    pub(crate) fn initial(&self, interval: Duration) {
        let interval = lookaside_proto::duration::to_proto(interval);
        self.send(LoadBalanceResponseType::InitialResponse(
            InitialLoadBalanceResponse {
                client_stats_report_interval: Some(interval),
            },
        ));
    }

    pub(crate) fn list(&self, servers: impl Into<Vec<Server>>) {
        self.send(LoadBalanceResponseType::ServerList(ServerList {
            servers: servers.into(),
        }));
    }

    pub(crate) fn fallback(&self) {
        self.send(LoadBalanceResponseType::FallbackResponse(
            FallbackResponse {},
        ));
    }

    /// A message with nothing in it.
    pub(crate) fn empty(&self) {
        self.responses
            .send(Ok(LoadBalanceResponse::default()))
            .unwrap();
    }

    pub(crate) fn fail(self, status: Status) {
        self.responses.send(Err(status)).unwrap();
    }

    /// The name in the initial request.
    pub(crate) async fn name(&mut self) -> String {
        match self.request().await {
            LoadBalanceRequestType::InitialRequest(initial) => initial.name,
            other => panic!("{other:?} is no initial request"),
        }
    }

    /// The next report.
    pub(crate) async fn report(&mut self) -> ClientStats {
        match self.request().await {
            LoadBalanceRequestType::ClientStats(stats) => stats,
            other => panic!("{other:?} is no report"),
        }
    }

    async fn request(&mut self) -> LoadBalanceRequestType {
        let request = self.requests.message().await.unwrap().unwrap();
        request.load_balance_request_type.unwrap()
    }

    /// The next request, of any kind; `None` once the client is gone.
    pub(crate) async fn next_request(&mut self) -> Option<LoadBalanceRequest> {
        self.requests.message().await.ok().flatten()
    }
}

/// A list entry for a backend.
pub(crate) fn entry(addr: SocketAddr, token: &str) -> Server {
    Server {
        ip_address: ip_bytes(addr.ip()),
        port: i32::from(addr.port()),
        load_balance_token: token.to_owned(),
        drop: false,
    }
}

/// A list entry for a drop.
pub(crate) fn drop_entry(token: &str) -> Server {
    Server {
        load_balance_token: token.to_owned(),
        drop: true,
        ..Server::default()
    }
}

struct Service(mpsc::UnboundedSender<BalancerStream>);

#[tonic::async_trait]
impl LoadBalancer for Service {
    type BalanceLoadStream = Pin<
        Box<dyn tokio_stream::Stream<Item = Result<LoadBalanceResponse, Status>> + Send + 'static>,
    >;

    async fn balance_load(
        &self,
        request: Request<Streaming<LoadBalanceRequest>>,
    ) -> Result<Response<Self::BalanceLoadStream>, Status> {
        let (responses, stream) = mpsc::unbounded_channel();
        let authority = request
            .extensions()
            .get::<SeenAuthority>()
            .unwrap()
            .0
            .clone();
        let opened = BalancerStream {
            requests: request.into_inner(),
            responses,
            authority,
        };
        self.0
            .send(opened)
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            stream,
        ))))
    }
}
