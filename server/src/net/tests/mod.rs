//! The promises of a port, over real sockets, with a service that is not ours.

mod connections;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;

/// Long enough for anything that should happen, and no test waits for it.
const SOON: Duration = Duration::from_secs(30);

/// A port whose service answers anything with its path, and `/flood` with
/// bytes without end.
struct Port {
    addr: SocketAddr,
    registry: Registry,
    shutdown: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
    /// Who sent the last request.
    peer: Arc<Mutex<Option<Arc<Peer>>>>,
}

enum Answer {
    Once(Option<Bytes>),
    Flood,
}

impl Port {
    fn start(tls: Option<Arc<TlsFiles>>, limits: Limits) -> Self {
        let mut registry = Registry::default();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr();
        let shutdown = CancellationToken::new();
        let options = Options {
            tls,
            limits,
            shutdown: Shutdown {
                token: shutdown.clone(),
                goaway_over: Duration::from_millis(50),
                deadline: SOON,
            },
            metrics: NetMetrics::register(&mut registry),
        };
        let peer = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&peer);
        let service = service_fn(move |request: Request<Incoming>| {
            let peer = request.extensions().get::<Arc<Peer>>();
            *seen.lock().unwrap() = peer.map(Arc::clone);
            let answer = match request.uri().path() {
                "/flood" => Answer::Flood,
                path => Answer::Once(Some(Bytes::copy_from_slice(path.as_bytes()))),
            };
            std::future::ready(Ok::<_, Infallible>(Response::new(answer)))
        });
        let served = tokio::spawn(serve(listener, service, options));
        Self {
            addr,
            registry,
            shutdown,
            served,
            peer,
        }
    }

    fn plain() -> Self {
        Self::start(None, limits())
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    fn peer(&self) -> Arc<Peer> {
        let peer = self.peer.lock().unwrap();
        Arc::clone(peer.as_ref().expect("a request came"))
    }

    fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let mut lines = text.lines();
        let value = lines.find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    async fn until(&self, so: impl Fn(&Self) -> bool) {
        let until = async {
            while !so(self) {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, until).await.expect("in time");
    }
}

/// A client's end of an HTTP/2 connection.
struct Client {
    h2: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn over(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (h2, connection) = h2::client::handshake(io).await.unwrap();
        Self {
            h2,
            connection: tokio::spawn(connection),
        }
    }

    async fn send(&mut self, path: &str) -> Result<h2::RecvStream, h2::Error> {
        let uri = format!("http://lb.test{path}");
        let request = Request::get(uri).body(()).unwrap();
        std::future::poll_fn(|cx| self.h2.poll_ready(cx)).await?;
        let (response, _) = self.h2.send_request(request, true)?;
        let response = timeout(SOON, response).await.expect("in time")?;
        Ok(response.into_body())
    }

    /// The answer to a request for `path`, which is `path`.
    async fn get(&mut self, path: &str) -> Result<Bytes, h2::Error> {
        let mut body = self.send(path).await?;
        let data = timeout(SOON, body.data()).await.expect("in time");
        data.expect("an answer")
    }

    /// How the connection ended.
    async fn ended(self) -> Result<(), h2::Error> {
        let ended = timeout(SOON, self.connection).await;
        ended.expect("in time").unwrap()
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(match self.get_mut() {
            Self::Once(answer) => answer.take().map(|answer| Ok(Frame::data(answer))),
            Self::Flood => Some(Ok(Frame::data(Bytes::from_static(&[0; 16_384])))),
        })
    }
}

/// Reads until the other side closes.
async fn closed(mut io: impl AsyncRead + Unpin) {
    let mut rest = Vec::new();
    let read = timeout(SOON, io.read_to_end(&mut rest)).await;
    // A reset is as good an end.
    let _ = read.expect("closed in time");
}

fn limits() -> Limits {
    Limits::for_descriptors(4096)
}

/// With little time for what begins a connection, but enough on a busy machine.
fn impatient() -> Limits {
    Limits {
        handshake_timeout: Duration::from_secs(1),
        ..limits()
    }
}
