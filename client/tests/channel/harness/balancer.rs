//! A balancer that does what the test says, message by message.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use lookaside_proto::addr::ip_bytes;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::load_balancer_server::{LoadBalancer, LoadBalancerServer};
use lookaside_proto::lb_v1::{
    ClientStats, FallbackResponse, InitialLoadBalanceResponse, LoadBalanceRequest,
    LoadBalanceResponse, Server, ServerList,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::metadata::MetadataMap;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use tower::util::MapRequestLayer;

use super::{ANY_PORT, Net, Place, Process, SeenAuthority, see_authority, within};

pub(crate) struct Balancer {
    pub(crate) addr: SocketAddr,
    place: Place,
    streams: mpsc::UnboundedReceiver<BalancerStream>,
    connections: Arc<AtomicUsize>,
    stop: Arc<Notify>,
}

impl Balancer {
    pub(crate) async fn start() -> Self {
        Self::start_at(ANY_PORT).await
    }

    pub(crate) async fn start_at(addr: SocketAddr) -> Self {
        let process = Process::new();
        let listener = process.listen(addr).await;
        let addr = listener.local_addr().unwrap();
        let incoming = TcpListenerStream::new(listener);
        Self::serve(addr, incoming, Place::Sockets(process))
    }

    pub(crate) fn in_memory(net: &Net, addr: SocketAddr) -> Self {
        let (incoming, place) = net.listen(addr);
        Self::serve(addr, incoming, Place::Memory(place))
    }

    fn serve<IO>(
        addr: SocketAddr,
        incoming: impl Stream<Item = io::Result<IO>> + Send + 'static,
        mut place: Place,
    ) -> Self
    where
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let (opened, streams) = mpsc::unbounded_channel();
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        let incoming = incoming.inspect(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        place.spawn(async move {
            tonic::transport::Server::builder()
                .layer(MapRequestLayer::new(see_authority))
                .add_service(LoadBalancerServer::new(Service(opened)))
                .serve_with_incoming_shutdown(incoming, async move { stopped.notified().await })
                .await
                .unwrap();
        });
        Self {
            addr,
            place,
            streams,
            connections,
            stop,
        }
    }

    /// The next stream that a client opens. It is answered only by what the test
    /// sends.
    #[track_caller]
    pub(crate) fn accept(&mut self) -> impl Future<Output = BalancerStream> {
        let stream = within("a stream to the balancer", self.streams.recv());
        async { stream.await.unwrap() }
    }

    /// Whether a client has opened a stream that was not accepted yet.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.streams.is_empty()
    }

    /// How many connections were opened so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A stream that a client has opened already.
    #[cfg(feature = "tls")]
    pub(crate) fn try_accept(&mut self) -> Option<BalancerStream> {
        self.streams.try_recv().ok()
    }

    /// The next stream, past its handshake.
    #[track_caller]
    pub(crate) fn greet(&mut self) -> impl Future<Output = BalancerStream> {
        self.greet_with(Duration::ZERO)
    }

    /// The next stream, with reports at `interval`.
    #[track_caller]
    pub(crate) fn greet_with(
        &mut self,
        interval: Duration,
    ) -> impl Future<Output = BalancerStream> {
        let accept = self.accept();
        async move {
            let mut stream = accept.await;
            stream.name().await;
            stream.initial(interval);
            stream
        }
    }

    /// As SIGTERM would: GOAWAY, and streams go on until the test ends them.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    pub(crate) fn kill(&mut self) {
        self.place.kill();
        // Streams that nobody has accepted yet die with it.
        while self.streams.try_recv().is_ok() {}
    }
}

/// The balancer's end of one stream. It ends with OK when dropped.
pub(crate) struct BalancerStream {
    requests: Streaming<LoadBalanceRequest>,
    responses: Option<mpsc::UnboundedSender<Result<LoadBalanceResponse, Status>>>,
    pub(crate) authority: String,
    headers: MetadataMap,
}

impl BalancerStream {
    pub(crate) fn send(&self, response: LoadBalanceResponseType) {
        let response = LoadBalanceResponse {
            load_balance_response_type: Some(response),
        };
        self.push(Ok(response));
    }

    pub(crate) fn initial(&self, interval: Duration) {
        let interval = lookaside_proto::duration::to_proto(interval);
        self.handshake(InitialLoadBalanceResponse {
            client_stats_report_interval: Some(interval),
        });
    }

    /// A handshake with an interval that need not make sense.
    pub(crate) fn initial_seconds(&self, seconds: Option<i64>) {
        let mut initial = InitialLoadBalanceResponse::default();
        if let Some(seconds) = seconds {
            let interval = &mut initial.client_stats_report_interval;
            interval.get_or_insert_default().seconds = seconds;
        }
        self.handshake(initial);
    }

    fn handshake(&self, initial: InitialLoadBalanceResponse) {
        self.send(LoadBalanceResponseType::InitialResponse(initial));
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
        self.push(Ok(LoadBalanceResponse::default()));
    }

    pub(crate) fn fail(self, status: Status) {
        self.push(Err(status));
    }

    /// Ends the stream with OK, and goes on reading it.
    pub(crate) fn end(&mut self) {
        self.responses = None;
    }

    fn push(&self, response: Result<LoadBalanceResponse, Status>) {
        self.responses.as_ref().unwrap().send(response).unwrap();
    }

    /// A header of the request that opened the stream.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }

    /// The name in the initial request.
    #[track_caller]
    pub(crate) fn name(&mut self) -> impl Future<Output = String> {
        let request = self.next_request();
        async {
            match request.await.and_then(|r| r.load_balance_request_type) {
                Some(LoadBalanceRequestType::InitialRequest(initial)) => initial.name,
                other => panic!("{other:?} is no initial request"),
            }
        }
    }

    /// The next report.
    #[track_caller]
    pub(crate) fn report(&mut self) -> impl Future<Output = ClientStats> {
        let request = self.next_request();
        async {
            match request.await.and_then(|r| r.load_balance_request_type) {
                Some(LoadBalanceRequestType::ClientStats(stats)) => stats,
                other => panic!("{other:?} is no report"),
            }
        }
    }

    /// The next request, of any kind; `None` once the client is gone.
    #[track_caller]
    pub(crate) fn next_request(&mut self) -> impl Future<Output = Option<LoadBalanceRequest>> {
        let message = within("a request to the balancer", self.requests.message());
        async { message.await.ok().flatten() }
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
    type BalanceLoadStream =
        Pin<Box<dyn Stream<Item = Result<LoadBalanceResponse, Status>> + Send + 'static>>;

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
        let headers = request.metadata().clone();
        let opened = BalancerStream {
            headers,
            requests: request.into_inner(),
            responses: Some(responses),
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
