//! Connections that are too many, too slow or at their end.

use tokio::io::AsyncWriteExt as _;

use super::*;

#[tokio::test]
async fn a_request_knows_its_peer() {
    let port = Port::plain();
    let socket = port.connect().await;
    let local = socket.local_addr().unwrap();
    let mut client = Client::over(socket).await;
    assert_eq!(client.get("/hello").await.unwrap(), "/hello");
    assert_eq!(port.peer().addr, local);
    assert!(port.peer().certificates.is_none());
    assert_eq!(port.metric("connections"), 1);
}

#[tokio::test]
async fn a_connection_is_closed_by_its_token_and_no_other() {
    let port = Port::plain();
    let mut one = Client::over(port.connect().await).await;
    one.get("/").await.unwrap();
    let peer = port.peer();
    let mut other = Client::over(port.connect().await).await;
    other.get("/").await.unwrap();
    peer.connection.cancel();
    let _ = one.ended().await;
    other.get("/").await.unwrap();
    port.until(|p| p.metric("connections") == 1).await;
    assert_eq!(
        port.metric("connections_closed_total{reason=\"cancelled\"}"),
        1
    );
}

#[tokio::test]
async fn a_connection_that_does_not_begin_is_closed() {
    let port = Port::start(None, impatient());
    let mut begun = Client::over(port.connect().await).await;
    begun.get("/").await.unwrap();
    let silent = port.connect().await;
    let mut slow = port.connect().await;
    slow.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    closed(silent).await;
    closed(slow).await;
    begun.get("/").await.unwrap();
    let refused = "connections_refused_total{reason=\"handshake_timeout\"}";
    assert_eq!(port.metric(refused), 2);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_closed() {
    let port = Port::start(
        None,
        Limits {
            stall_timeout: Duration::from_millis(50),
            ..limits()
        },
    );
    // More window than any socket buffers, and nobody reads.
    let socket = port.connect().await;
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(1 << 30)
        .initial_connection_window_size(1 << 30);
    let (h2, connection) = builder.handshake::<_, Bytes>(socket).await.unwrap();
    let mut connection = Box::pin(connection);
    let request = Request::get("http://lb.test/flood").body(()).unwrap();
    let mut ready = h2.ready().await.unwrap();
    let (response, _) = ready.send_request(request, true).unwrap();
    // Polled until the response has begun, and never again.
    tokio::select! {
        _ = &mut connection => panic!("ended"),
        response = response => drop(response.map(std::mem::forget)),
    }
    port.until(|p| p.metric("connections") == 0).await;
    let stalled = "connections_closed_total{reason=\"stalled\"}";
    assert_eq!(port.metric(stalled), 1);
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_until_one_ends() {
    let port = Port::start(
        None,
        Limits {
            connections_per_peer: 1,
            ..limits()
        },
    );
    let mut first = Client::over(port.connect().await).await;
    first.get("/").await.unwrap();
    closed(port.connect().await).await;
    let refused = "connections_refused_total{reason=\"peer\"}";
    port.until(|p| p.metric(refused) == 1).await;
    first.get("/").await.unwrap();
    drop(first.h2);
    timeout(SOON, first.connection)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    port.until(|p| p.metric("connections") == 0).await;
    let mut second = Client::over(port.connect().await).await;
    second.get("/").await.unwrap();
}

#[tokio::test]
async fn at_the_end_clients_are_told_to_go_and_may_finish() {
    let port = Port::plain();
    let mut idle = Client::over(port.connect().await).await;
    idle.get("/").await.unwrap();
    let mut busy = Client::over(port.connect().await).await;
    let mut flood = busy.send("/flood").await.unwrap();
    flood.data().await.unwrap().unwrap();
    port.shutdown.cancel();
    // GOAWAY without an error, not a lost connection.
    idle.ended().await.unwrap();
    let refused = async {
        while busy.send("/").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, refused).await.expect("told to go");
    assert!(!port.served.is_finished());
    assert!(TcpStream::connect(port.addr).await.is_err());
    flood.flow_control().release_capacity(1000).unwrap();
    flood.data().await.unwrap().unwrap();
    drop(flood);
    busy.ended().await.unwrap();
    timeout(SOON, port.served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn giving_up_closes_everything() {
    let port = Port::plain();
    let mut client = Client::over(port.connect().await).await;
    client.get("/").await.unwrap();
    port.served.abort();
    let _ = client.ended().await;
    port.until(|p| p.metric("connections") == 0).await;
    let refused = async {
        while TcpStream::connect(port.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, refused).await.expect("the port is closed");
}
