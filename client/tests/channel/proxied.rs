//! Channels through an HTTP proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use lookaside_client::subchannel::Proxy;
use lookaside_client::{Channel, Error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{Backend, connect, hello};

/// A proxy that connects everything to `to`, or refuses with an answer.
struct ConnectProxy {
    addr: SocketAddr,
    /// What it was asked.
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl ConnectProxy {
    async fn start(answer: &'static str, to: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&asked);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut tunnels = JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tunnels.spawn(async move {
                    let mut head = vec![];
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(socket.read_u8().await.unwrap());
                    }
                    seen.lock().unwrap().push(String::from_utf8(head).unwrap());
                    socket.write_all(answer.as_bytes()).await.unwrap();
                    if let Some(to) = to {
                        let mut server = TcpStream::connect(to).await.unwrap();
                        let _ = copy_bidirectional(&mut socket, &mut server).await;
                    }
                });
            }
        });
        Self {
            addr,
            asked,
            _task: task,
        }
    }
}

#[tokio::test]
async fn a_target_is_called_by_name_through_the_proxy() {
    let backend = Backend::start("a").await;
    let answer = "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n";
    let proxy = ConnectProxy::start(answer, Some(backend.addr)).await;
    let url = format!("http://me:p%40ss@{}", proxy.addr);
    // A name that the client cannot look up.
    let builder = Channel::builder("dns:///greeter.test:50051").proxy(Proxy::new(&url).unwrap());
    let channel = connect(builder).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
    assert_eq!(backend.calls()[0].authority, "greeter.test:50051");
    let asked = proxy.asked.lock().unwrap()[0].clone();
    assert!(
        asked.starts_with("CONNECT greeter.test:50051 HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("\r\nHost: greeter.test:50051\r\n"),
        "{asked}"
    );
    // me:p@ss
    assert!(
        asked.contains("\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_its_answer() {
    let answer = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
    let proxy = ConnectProxy::start(answer, None).await;
    let url = proxy.addr.to_string();
    let builder = Channel::builder("greeter.test").proxy(Proxy::new(&url).unwrap());
    let error = connect(builder).await.unwrap_err().to_string();
    for wanted in [
        &*url,
        "greeter.test:443",
        "407 Proxy Authentication",
        "user:password",
    ] {
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

#[tokio::test]
async fn lists_of_addresses_are_called_without_the_proxy() {
    let backend = Backend::start("a").await;
    let proxy = ConnectProxy::start("HTTP/1.1 500 Not you\r\n\r\n", None).await;
    let url = proxy.addr.to_string();
    let builder = Channel::builder(format!("static:{}", backend.addr));
    let channel = connect(builder.proxy(Proxy::new(&url).unwrap()))
        .await
        .unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
    assert!(proxy.asked.lock().unwrap().is_empty());
    assert!(matches!(
        Proxy::new("socks5://x:1"),
        Err(Error::Proxy { .. })
    ));
}
