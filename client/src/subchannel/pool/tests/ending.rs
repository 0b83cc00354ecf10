//! How connections end, and what becomes of the RPCs on them.

use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use super::*;
use crate::subchannel::{Connection, NotSent, RequestBody};

/// A POST without a body.
pub(super) fn request() -> http::Request<RequestBody> {
    let mut request = http::Request::new(RequestBody::from(tonic::body::Body::empty()));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = "http://x/y".parse().unwrap();
    request
}

/// The other end of the newest connection.
fn server(memory: &Memory) -> DuplexStream {
    memory.world().accepted.pop().unwrap()
}

/// The connection of the only subchannel, once it has one.
pub(super) async fn connection(pool: &mut Pool, subchannel: &Subchannel) -> Connection {
    pool.connect(subchannel);
    loop {
        if let SubchannelState::Ready(connection) = pool.state(subchannel) {
            return connection;
        }
        pool.changed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_goaway_is_heard_at_once_and_streams_under_way_finish() {
    let memory = Memory::default();
    let mut pool = memory.pool(ConnectOptions::default());
    let subchannel = pool.acquire(&addresses(1)[0]);
    let mut streams = serve(&memory);
    let old = connection(&mut pool, &subchannel).await;

    // A stream that is there for long.
    let (response, accepted) = tokio::join!(old.send(request()), streams.recv());
    let mut body = response.unwrap().into_body();
    let Accepted {
        mut send, goodbye, ..
    } = accepted.unwrap();
    send.send_data("before".into(), false).unwrap();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "before"
    );

    // The server says goodbye: nobody sends anything, and yet the pool knows.
    goodbye.send(()).unwrap();
    pool.changed().await;
    assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
    assert!(pool.take_losses());

    // Who still has the old connection gets his RPC back unsent.
    assert!(old.send(request()).await.unwrap_err().request.is_some());

    // There is a new one, while the old stream is open.
    let new = connection(&mut pool, &subchannel).await;
    assert_ne!(old, new);
    let (response, accepted) = tokio::join!(new.send(request()), streams.recv());
    assert!(response.is_ok());
    drop(accepted);

    // And that one ends as the server wants it to.
    send.send_data("after".into(), true).unwrap();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "after"
    );
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_rpc_that_a_goaway_does_not_cover_comes_back_as_refused() {
    let memory = Memory::default();
    let mut pool = memory.pool(ConnectOptions::default());
    let subchannel = pool.acquire(&addresses(1)[0]);
    let connection = connection(&mut pool, &subchannel).await;
    let mut server = server(&memory);
    let goodbye = async {
        // Until the RPC has come: HEADERS, which are all of it.
        let mut seen = vec![];
        while !seen.windows(2).any(|pair| pair == b"\x01\x05") {
            assert!(server.read_buf(&mut seen).await.unwrap() > 0);
        }
        // GOAWAY: nothing was looked at.
        let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
        frame.extend([0; 8]);
        server.write_all(&frame).await.unwrap();
    };
    let (sent, ()) = tokio::join!(connection.send(request()), goodbye);
    let NotSent { error, left, .. } = sent.unwrap_err();
    assert!(left);
    assert!(error.is_go_away() && error.is_remote());
    pool.changed().await;
    assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_dead() {
    let memory = Memory::default();
    let mut pool = memory.pool(ConnectOptions {
        keepalive_interval: Some(Duration::from_secs(20)),
        keepalive_timeout: Duration::from_secs(10),
        keepalive_while_idle: true,
        ..ConnectOptions::default()
    });
    let subchannel = pool.acquire(&addresses(1)[0]);
    let connection = connection(&mut pool, &subchannel).await;
    let started = Instant::now();
    let waiting = tokio::spawn(async move { connection.send(request()).await });
    pool.changed().await;
    assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_secs(30), "{elapsed:?}");
    assert!(elapsed <= Duration::from_secs(31), "{elapsed:?}");
    let error = waiting.await.unwrap().unwrap_err();
    assert!(error.left);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_at_once_is_not_waited_for() {
    let memory = Memory::default();
    let mut pool = memory.pool(ConnectOptions::default());
    let subchannel = pool.acquire(&addresses(1)[0]);
    let first = connection(&mut pool, &subchannel).await;
    let began = Instant::now();
    drop(server(&memory));
    pool.changed().await;
    let second = connection(&mut pool, &subchannel).await;
    assert_ne!(first, second);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn connections_that_bring_nothing_are_a_second_apart() {
    let memory = Memory::default();
    let mut pool = memory.pool(ConnectOptions::default());
    let subchannel = pool.acquire(&addresses(1)[0]);
    let began = Instant::now();
    for _ in 0..12 {
        connection(&mut pool, &subchannel).await;
        drop(server(&memory));
        pool.changed().await;
    }
    let elapsed = began.elapsed();
    assert!(elapsed >= Duration::from_secs(8), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_used_follow_each_other_at_once() {
    let memory = Memory::default();
    let mut pool = memory.pool(ConnectOptions::default());
    let subchannel = pool.acquire(&addresses(1)[0]);
    let mut streams = serve(&memory);
    let began = Instant::now();
    for _ in 0..20 {
        let connection = connection(&mut pool, &subchannel).await;
        let (response, accepted) = tokio::join!(connection.send(request()), streams.recv());
        response.unwrap();
        accepted.unwrap().goodbye.send(()).unwrap();
        pool.changed().await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// How long the server waits for a ping.
async fn until_ping(server: &mut DuplexStream) -> Duration {
    let began = Instant::now();
    let mut seen = vec![];
    // PING: eight bytes, of type 6, for the connection.
    while !seen
        .windows(9)
        .any(|frame| frame == [0, 0, 8, 6, 0, 0, 0, 0, 0])
    {
        assert!(server.read_buf(&mut seen).await.unwrap() > 0);
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn too_many_pings_double_the_interval_of_the_connections_that_follow() {
    let memory = Memory::default();
    let mut pool = memory.pool(ConnectOptions {
        keepalive_interval: Some(Duration::from_secs(1)),
        keepalive_while_idle: true,
        ..ConnectOptions::default()
    });
    let subchannel = pool.acquire(&addresses(1)[0]);
    let leaving = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // Some say first that they leave.
    for (wanted, before) in [(1, &[][..]), (2, &leaving), (4, &[])] {
        connection(&mut pool, &subchannel).await;
        let mut server = server(&memory);
        assert_eq!(until_ping(&mut server).await.as_secs(), wanted);
        let mut frame = before.to_vec();
        frame.extend([0, 0, 22, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]);
        frame.extend(b"too_many_pings");
        server.write_all(&frame).await.unwrap();
        pool.changed().await;
        assert!(matches!(pool.state(&subchannel), SubchannelState::Idle));
    }
}

/// A stream that a server of HTTP/2 has answered, but for the body.
struct Accepted {
    send: h2::SendStream<bytes::Bytes>,
    /// Makes the server of this stream say goodbye.
    goodbye: oneshot::Sender<()>,
    _request: http::Request<h2::RecvStream>,
}

/// Serves each connection that `memory` opens. The first stream of each goes to
/// the test.
fn serve(memory: &Memory) -> mpsc::UnboundedReceiver<Accepted> {
    let (accepted, streams) = mpsc::unbounded_channel();
    let (servers, mut sockets) = mpsc::unbounded_channel();
    memory.world().servers = Some(servers);
    tokio::spawn(async move {
        while let Some(socket) = sockets.recv().await {
            tokio::spawn(serve_one(socket, accepted.clone()));
        }
    });
    streams
}

async fn serve_one(socket: DuplexStream, accepted: mpsc::UnboundedSender<Accepted>) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    let (goodbye, said) = oneshot::channel();
    let sent = accepted.send(Accepted {
        send: respond
            .send_response(http::Response::new(()), false)
            .unwrap(),
        goodbye,
        _request: request,
    });
    assert!(sent.is_ok());
    let more = async |connection: &mut h2::server::Connection<_, _>| {
        assert!(connection.accept().await.is_none());
    };
    tokio::select! {
        () = more(&mut connection) => return,
        Ok(()) = said => {}
    }
    connection.graceful_shutdown();
    more(&mut connection).await;
}
