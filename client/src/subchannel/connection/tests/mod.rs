//! Connections to a server that a test plays itself, over memory.

mod windows;

use std::io;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use h2::server;
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinSet;
use tonic::Status;

use super::*;
use crate::endpoint::Address;
use crate::subchannel::{Connect, ConnectOptions, Driver, Ending, Kept, Transport, connect};

/// The client's end, which counts its writes.
#[derive(Debug)]
struct Counted {
    end: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.end).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        pin!(&mut self.end).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.end).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.end).poll_shutdown(cx)
    }
}

/// Gives out one end.
#[derive(Debug)]
struct Wire(Mutex<Option<Counted>>);

impl Connect for Wire {
    fn connect(&self, _: &Address) -> BoxFuture<'static, io::Result<Box<dyn Transport>>> {
        let end = self.0.lock().unwrap().take().unwrap();
        Box::pin(async move { Ok(Box::new(end) as Box<dyn Transport>) })
    }
}

type Server = server::Connection<DuplexStream, Bytes>;

struct World {
    connection: Connection,
    driver: Driver,
    server: Server,
    writes: Arc<AtomicUsize>,
    _tasks: TaskTracker,
}

impl World {
    async fn new(builder: &server::Builder, options: ConnectOptions) -> Self {
        let (end, other) = duplex(1 << 20);
        let writes = Arc::new(AtomicUsize::new(0));
        let wire = Wire(Mutex::new(Some(Counted {
            end,
            writes: Arc::clone(&writes),
        })));
        let options = ConnectOptions {
            connector: Arc::new(wire),
            ..options
        };
        let tasks = TaskTracker::new();
        let address = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let (server, connected) = tokio::join!(
            builder.handshake(other),
            connect(&address, &options, &tasks)
        );
        let (connection, driver) = connected.unwrap();
        Self {
            connection,
            driver,
            server: server.unwrap(),
            writes,
            _tasks: tasks,
        }
    }

    async fn plain() -> Self {
        Self::new(&server::Builder::new(), ConnectOptions::default()).await
    }
}

/// A unary RPC.
async fn unary() -> Request<RequestBody> {
    let body = Body::new(http_body_util::Full::new(Bytes::from_static(b"message")));
    with_body(body).await
}

async fn with_body(body: Body) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = "http://a/b".parse().unwrap();
    Kept::new(request).await.unwrap().0
}

#[tokio::test]
async fn rpcs_that_are_sent_at_once_leave_in_one_write() {
    let World {
        connection,
        mut server,
        writes,
        driver: _driver,
        _tasks,
    } = World::plain().await;
    let mut answered = JoinSet::new();
    // The first one takes the end of the handshake with it.
    for (count, wanted) in [(1, None), (20, Some(1))] {
        let before = writes.load(Ordering::Relaxed);
        for _ in 0..count {
            let connection = connection.clone();
            answered.spawn(async move { connection.send(unary().await).await.unwrap() });
        }
        for _ in 0..count {
            let (_, mut respond) = server.accept().await.unwrap().unwrap();
            respond.send_response(Response::new(()), true).unwrap();
        }
        if let Some(wanted) = wanted {
            assert_eq!(writes.load(Ordering::Relaxed) - before, wanted);
        }
        let serving = async { while server.accept().await.is_some() {} };
        let all = async { while answered.join_next().await.is_some() {} };
        tokio::select! { () = serving => {} () = all => {} }
    }
}

#[tokio::test]
async fn an_rpc_beyond_the_servers_limit_waits_and_comes_back_if_the_connection_ends() {
    let mut one = server::Builder::new();
    one.max_concurrent_streams(1);
    let World {
        connection,
        mut server,
        driver: _driver,
        ..
    } = World::new(&one, ConnectOptions::default()).await;
    let first = connection.send(unary().await);
    let second = connection.send(unary().await);
    let (mut first, mut second) = (pin!(first), pin!(second));
    let accepted = tokio::select! {
        _ = &mut first => unreachable!(),
        accepted = server.accept() => accepted,
    };
    assert!(accepted.is_some());
    assert!(futures_util::poll!(&mut second).is_pending());
    drop((accepted, server));
    assert!(first.await.unwrap_err().left);
    let second = second.await.unwrap_err();
    assert!(!second.left);
    assert_eq!(second.request.unwrap().uri(), "http://a/b");
}

#[tokio::test]
async fn what_was_queued_for_a_connection_that_was_dead_has_not_left() {
    let World {
        connection,
        server,
        driver: _driver,
        ..
    } = World::plain().await;
    // Until nothing is left to be written.
    tokio::task::yield_now().await;
    drop(server);
    let error = connection.send(unary().await).await.unwrap_err();
    assert!(!error.left);
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled() {
    let World {
        connection,
        mut server,
        driver: _driver,
        ..
    } = World::plain().await;
    // One whose message is there, and one whose messages are still to come.
    let endless = Body::new(StreamBody::new(stream::pending::<
        Result<Frame<Bytes>, Status>,
    >()));
    for request in [unary().await, with_body(endless).await] {
        let mut call = Box::pin(connection.send(request));
        let accepted = tokio::select! {
            _ = &mut call => unreachable!(),
            accepted = server.accept() => accepted,
        };
        let (_request, mut respond) = accepted.unwrap().unwrap();
        drop(call);
        let reset = poll_fn(|cx| respond.poll_reset(cx));
        tokio::select! {
            reset = reset => assert_eq!(reset.unwrap(), Reason::CANCEL),
            _ = server.accept() => unreachable!(),
        }
    }
}

#[tokio::test]
async fn a_long_upload_goes_as_far_as_there_is_window() {
    let World {
        connection,
        mut server,
        driver: _driver,
        ..
    } = World::plain().await;
    let chunks = (0..40).map(|n| vec![n; 50_000]);
    let sent: Vec<u8> = chunks.clone().flatten().collect();
    let frames = stream::iter(chunks).map(|chunk| Ok::<_, Status>(Frame::data(chunk.into())));
    let request = with_body(Body::new(StreamBody::new(frames))).await;
    let serve = async {
        let (request, mut respond) = server.accept().await.unwrap().unwrap();
        let mut body = request.into_body();
        let read = async {
            let mut got = vec![];
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                got.extend_from_slice(&data);
            }
            got
        };
        let got = tokio::select! {
            got = read => got,
            _ = server.accept() => unreachable!(),
        };
        respond.send_response(Response::new(()), true).unwrap();
        let mut end = server;
        let _ = futures_util::poll!(pin!(end.accept()));
        (got, end)
    };
    let (response, (got, _server)) = tokio::join!(connection.send(request), serve);
    assert!(got == sent);
    assert!(response.unwrap().into_body().is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_no_ping_is_dead() {
    let options = ConnectOptions {
        keepalive_interval: Some(Duration::from_secs(20)),
        keepalive_timeout: Duration::from_secs(10),
        keepalive_while_idle: true,
        ..ConnectOptions::default()
    };
    let World {
        server: _silent,
        connection: _connection,
        driver,
        ..
    } = World::new(&server::Builder::new(), options).await;
    let began = tokio::time::Instant::now();
    let ending = driver.await;
    assert!(matches!(ending, Ending::Closed(Some(_))), "{ending}");
    assert!(
        began.elapsed() >= Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}
