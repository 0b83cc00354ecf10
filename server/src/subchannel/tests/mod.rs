//! What subchannels promise.

mod tls;

use std::net::SocketAddr;
use std::pin::pin;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

/// Says when a connection is opened, and ends all with GOAWAY when told to.
struct Server {
    addr: SocketAddr,
    goaway: watch::Sender<u64>,
    accepted: watch::Receiver<u64>,
    _tasks: JoinSet<()>,
}

impl Server {
    fn start(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(addr).unwrap();
        let listener = socket.listen(16).unwrap();
        let addr = listener.local_addr().unwrap();
        let goaway = watch::Sender::new(0);
        let (count, accepted) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, goaway.subscribe(), count));
        Self {
            addr,
            goaway,
            accepted,
            _tasks: tasks,
        }
    }
}

async fn serve(listener: TcpListener, goaway: watch::Receiver<u64>, count: watch::Sender<u64>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        count.send_modify(|count| *count += 1);
        let mut goaway = goaway.clone();
        goaway.borrow_and_update();
        connections.spawn(async move {
            let empty = |_| async {
                Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Empty::<
                    bytes::Bytes,
                >::new()))
            };
            let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(empty));
            let mut served = pin!(served);
            tokio::select! {
                _ = served.as_mut() => {}
                _ = goaway.changed() => {
                    served.as_mut().graceful_shutdown();
                    let _ = served.await;
                }
            }
        });
    }
}

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn address(target: SocketAddr) -> Address {
    Address {
        target,
        authority: None,
        tls: None,
    }
}

async fn until(states: &mut watch::Receiver<State>, what: &str, is: impl FnMut(&State) -> bool) {
    let waited = timeout(Duration::from_secs(30), states.wait_for(is));
    assert!(waited.await.is_ok_and(|state| state.is_ok()), "{what}");
}

#[tokio::test]
async fn who_asks_the_same_backend_shares_a_connection_and_the_last_closes_it() {
    let mut server = Server::start(local());
    let subchannels = Subchannels::new(SubchannelMetrics::default(), Certificates::default());
    let one = subchannels.get(&address(server.addr), "a.test");
    let other = subchannels.get(&address(server.addr), "b.test");
    let named = Address {
        authority: Some("c.test".to_owned()),
        ..address(server.addr)
    };
    let third = subchannels.get(&named, "a.test");
    for subchannel in [&one, &other, &third] {
        until(&mut subchannel.states(), "ready", |s| s.ready().is_some()).await;
    }
    assert_eq!(*server.accepted.borrow_and_update(), 2);
    drop((one, other, third));
    let end = CancellationToken::new();
    end.cancel();
    timeout(Duration::from_secs(30), subchannels.run(end))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_goaway_brings_another_connection_and_a_death_a_refusal() {
    let server = Server::start(local());
    let subchannels = Subchannels::new(SubchannelMetrics::default(), Certificates::default());
    let subchannel = subchannels.get(&address(server.addr), "a.test");
    let mut states = subchannel.states();
    let number = |state: &State, number| state.ready().is_some_and(|r| r.number == number);
    until(&mut states, "ready", |state| number(state, 1)).await;
    server.goaway.send_modify(|times| *times += 1);
    until(&mut states, "ready again", |state| number(state, 2)).await;
    let addr = server.addr;
    drop(server);
    let refused = |state: &State| matches!(state, State::Failed(NotOpened::Refused));
    until(&mut states, "refused", refused).await;
    let _back = Server::start(addr);
    until(&mut states, "back", |state| number(state, 3)).await;
}

#[tokio::test]
async fn whoever_takes_connections_and_says_nothing_fails_and_is_not_refused() {
    let listener = TcpListener::bind(local()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let subchannels = Subchannels::new(SubchannelMetrics::default(), Certificates::default());
    let subchannel = subchannels.get(&address(addr), "a.test");
    let failed = |state: &State| matches!(state, State::Failed(NotOpened::Failed(_)));
    until(&mut subchannel.states(), "failed", failed).await;
}

#[test]
fn many_together_are_no_more_than_5000_a_second() {
    let second = Duration::from_secs(1);
    assert_eq!(at_most_5000_a_second(second, 10), second);
    assert_eq!(at_most_5000_a_second(second, 10_000), 2 * second);
    assert!(at_most_5000_a_second(second, usize::MAX) > second);
}
