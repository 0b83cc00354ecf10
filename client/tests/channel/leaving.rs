//! Servers that leave in good order: GOAWAY, while something of theirs is still
//! under way.

use std::net::SocketAddr;

use lookaside_client::Channel;
use tokio::net::TcpStream;

use crate::harness::{Backend, Balancer, entry, follow, hello, hellos, reach, share, until};

/// Waits until nobody listens at `addr` any more.
async fn left(addr: SocketAddr) {
    let what = format!("the end of {addr}");
    until(what, async || TcpStream::connect(addr).await.is_err()).await;
}

#[tokio::test]
async fn a_draining_backend_with_an_rpc_under_way_gets_no_new_ones() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let target = format!("static:{},{}", a.addr, b.addr);
    let builder = Channel::builder(target).round_robin();
    let channel = builder.connect_lazy().unwrap();
    let ready = async |count| {
        let what = format!("{count} connections");
        until(what, async || channel.metrics().subchannels.ready == count).await;
    };
    ready(2).await;
    a.hold(true);
    let call = || {
        let channel = channel.clone();
        tokio::spawn(async move { hello(&channel).await })
    };
    let (one, other) = (call(), call());
    until("a call", async || !a.calls().is_empty()).await;

    a.stop();
    ready(1).await;
    assert_eq!(share(&hellos(&channel, 100).await, "b"), 100);
    assert_eq!(a.calls().len(), 1);

    // What it had begun it finishes.
    a.hold(false);
    let mut names = [one.await.unwrap().unwrap(), other.await.unwrap().unwrap()];
    names.sort();
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn a_leaving_balancer_is_followed_to_the_end_of_its_stream() {
    let mut balancer = Balancer::start().await;
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");

    balancer.stop();
    left(balancer.addr).await;
    for (backend, name) in [(&b, "b"), (&a, "a"), (&b, "b")] {
        stream.list([entry(backend.addr, "")]);
        reach(&channel, name).await;
    }
    assert_eq!(channel.metrics().balancer.streams, 1);

    // The next stream is over another connection.
    drop(stream);
    let mut balancer = Balancer::start_at(balancer.addr).await;
    balancer.greet().await.list([entry(a.addr, "")]);
    reach(&channel, "a").await;
}
