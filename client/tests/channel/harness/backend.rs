//! A Greeter that answers with its own name and notes what it saw.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt as _};
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};
use tower::util::MapRequestLayer;

use super::{ANY_PORT, Net, Place, Process, SeenAuthority, see_authority};

pub(crate) struct Backend {
    pub(crate) addr: SocketAddr,
    place: Place,
    seen: Arc<Seen>,
    stop: Arc<Notify>,
}

#[derive(Default)]
struct Seen {
    name: String,
    connections: AtomicUsize,
    calls: Mutex<Vec<Call>>,
    /// While `true`, RPCs do not end.
    hold: watch::Sender<bool>,
    /// RPCs that are still to fail.
    failures: AtomicUsize,
}

/// What a backend saw of one RPC.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) lb_token: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) user_agent: String,
    pub(crate) authority: String,
    /// The name in the request.
    pub(crate) caller: String,
    /// How often it was sent before, as the client says.
    pub(crate) previous_attempts: Option<String>,
    /// How long it may take, as the client says.
    pub(crate) timeout: Option<String>,
}

impl Backend {
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_at(name, ANY_PORT).await
    }

    pub(crate) async fn start_at(name: &str, addr: SocketAddr) -> Self {
        let process = Process::new();
        let listener = process.listen(addr).await;
        let addr = listener.local_addr().unwrap();
        let incoming = TcpListenerStream::new(listener);
        Self::serve(name, addr, incoming, Place::Sockets(process))
    }

    pub(crate) fn in_memory(net: &Net, name: &str, addr: SocketAddr) -> Self {
        let (incoming, place) = net.listen(addr);
        Self::serve(name, addr, incoming, Place::Memory(place))
    }

    fn serve<IO>(
        name: &str,
        addr: SocketAddr,
        incoming: impl Stream<Item = io::Result<IO>> + Send + 'static,
        mut place: Place,
    ) -> Self
    where
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let seen = Arc::new(Seen {
            name: name.to_owned(),
            ..Seen::default()
        });
        let stop = Arc::new(Notify::new());
        let counted = Arc::clone(&seen);
        let incoming = incoming.inspect(move |_| {
            counted.connections.fetch_add(1, Ordering::SeqCst);
        });
        let service = GreeterServer::new(Service(Arc::clone(&seen)));
        let stopped = Arc::clone(&stop);
        place.spawn(async move {
            tonic::transport::Server::builder()
                .layer(MapRequestLayer::new(see_authority))
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, async move { stopped.notified().await })
                .await
                .unwrap();
        });
        Self {
            addr,
            place,
            seen,
            stop,
        }
    }

    /// Only the service, for a server of the test's own.
    pub(crate) fn service(name: &str) -> GreeterServer<impl Greeter> {
        let seen = Seen {
            name: name.to_owned(),
            ..Seen::default()
        };
        GreeterServer::new(Service(Arc::new(seen)))
    }

    /// As SIGKILL would.
    pub(crate) fn kill(&mut self) {
        self.place.kill();
    }

    /// As SIGTERM would: GOAWAY, and RPCs under way finish.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    pub(crate) fn name(&self) -> &str {
        &self.seen.name
    }

    /// How many connections were opened so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.seen.calls.lock().unwrap().clone()
    }

    /// Makes the next `count` RPCs fail with UNAVAILABLE.
    pub(crate) fn fail_next(&self, count: usize) {
        self.seen.failures.store(count, Ordering::SeqCst);
    }

    /// Makes RPCs wait, or go on.
    pub(crate) fn hold(&self, hold: bool) {
        self.seen.hold.send_replace(hold);
    }
}

struct Service(Arc<Seen>);

#[tonic::async_trait]
impl Greeter for Service {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let header = |key| {
            let value = request.metadata().get(key)?;
            Some(value.to_str().unwrap().to_owned())
        };
        self.0.calls.lock().unwrap().push(Call {
            lb_token: header("lb-token"),
            authorization: header("authorization"),
            user_agent: header("user-agent").unwrap_or_default(),
            authority: request
                .extensions()
                .get::<SeenAuthority>()
                .map(|seen| seen.0.clone())
                .unwrap_or_default(),
            caller: request.get_ref().name.clone(),
            previous_attempts: header("grpc-previous-rpc-attempts"),
            timeout: header("grpc-timeout"),
        });
        let mut hold = self.0.hold.subscribe();
        hold.wait_for(|hold| !hold).await.unwrap();
        let order = Ordering::SeqCst;
        let failures = &self.0.failures;
        let fails = failures.fetch_update(order, order, |left| left.checked_sub(1));
        if fails.is_ok() {
            return Err(Status::unavailable("as asked"));
        }
        if request.get_ref().name == "fail" {
            return Err(Status::data_loss("as asked"));
        }
        Ok(Response::new(HelloReply {
            message: self.0.name.clone(),
        }))
    }
}
