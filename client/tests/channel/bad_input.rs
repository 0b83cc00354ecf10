//! Balancers that are none, and lists that are too much. RPCs go on with what was
//! good; an RPC that fails says why, and so does the log, once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lookaside_client::Channel;
use lookaside_proto::lb_v1::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::harness::{
    ANY_PORT, Backend, Balancer, Log, Process, Refusal, Refuser, entry, follow, hello, hellos,
    nobody, reach, share, until,
};

/// A server that sends `bytes` to whoever connects, reads what comes, if it is to,
/// and hangs up.
struct Stranger {
    addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _process: Process,
}

impl Stranger {
    async fn start(bytes: &'static [u8], reads: bool) -> Self {
        let process = Process::new();
        let listener = process.listen(ANY_PORT).await;
        let addr = listener.local_addr().unwrap();
        let accepted = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&accepted);
        process.spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                // The client may have gone.
                let _ = socket.write_all(bytes).await;
                if reads {
                    let _ = socket.read(&mut [0; 1024]).await;
                }
            }
        });
        Self {
            addr,
            accepted,
            _process: process,
        }
    }
}

/// What RPCs say while `balancer` is as it is and there is no fallback address; and
/// that the log says the same, once.
async fn reason(balancer: SocketAddr) -> String {
    let log = Log::start();
    let spare = nobody().await;
    let builder = Channel::builder(format!("static:{spare}")).balancer(balancer.to_string());
    let channel = builder.connect_lazy().unwrap();
    let mut last = String::new();
    for _ in 0..50 {
        last = hello(&channel).await.unwrap_err().message().to_owned();
        assert!(last.contains(&balancer.to_string()), "{last}");
        assert!(last.contains(&spare.to_string()), "{last}");
    }
    let lines = log.warnings("there is no stream to the balancer");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(&balancer.to_string()), "{lines:?}");
    let lines = log.warnings("none of the backends");
    assert!(lines.len() <= 1, "{lines:?}");
    last
}

#[tokio::test]
async fn balancers_that_are_none_are_called_what_they_are() {
    for (bytes, reads, wanted) in [
        // Reset, if it was faster than what the client says first.
        (&b""[..], false, "127.0.0.1"),
        (b"", true, "the server closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", true, "HTTP/1"),
        (b"\x15\x03\x03\0\x02\x02\x46", true, "TLS"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", true, "SSH-"),
        (b"\xff\xfe\xfd\xfc\xfb\xfa", true, "does not speak HTTP/2"),
        // SETTINGS, and then a frame longer than any may be.
        (
            b"\0\0\0\x04\0\0\0\0\0\xff\xff\xff\0\0\0\0\0\0\x01",
            true,
            "",
        ),
    ] {
        let stranger = Stranger::start(bytes, reads).await;
        let reason = reason(stranger.addr).await;
        assert!(reason.contains(wanted), "{wanted} is not in: {reason}");
    }
}

#[tokio::test]
async fn a_balancer_that_resets_streams_or_cuts_connections_is_named() {
    for how in [Refusal::Stream, Refusal::Error, Refusal::Cut] {
        let refuser = Refuser::start(how).await;
        let text = reason(refuser.addr).await;
        assert!(text.contains("balancer"), "{text}");
    }
}

#[tokio::test]
async fn a_balancer_that_hangs_up_is_not_called_all_the_time() {
    let stranger = Stranger::start(b"", false).await;
    let spare = Backend::start("spare").await;
    let target = format!("static:{}", spare.addr);
    let builder = Channel::builder(target).balancer(stranger.addr.to_string());
    let started = Instant::now();
    let channel = builder.connect().await.unwrap();
    assert_eq!(share(&hellos(&channel, 1000).await, "spare"), 1000);
    // The shortest delay is 0.8 s, and the second attempt is due then.
    let most = 2 + started.elapsed().as_secs() as usize;
    let accepted = stranger.accepted.load(Ordering::SeqCst);
    assert!(accepted <= most, "{accepted}");
}

/// More than the 4 MiB that gRPC takes of a message.
fn oversized(addr: SocketAddr) -> Vec<Server> {
    vec![entry(addr, "a token of thirty characters..."); 100_000]
}

#[tokio::test]
async fn an_oversized_list_leaves_the_list_before_it_in_use() {
    let log = Log::start();
    let mut balancer = Balancer::start().await;
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    stream.list(oversized(b.addr));
    until("the loss", async || channel.metrics().balancer.streams > 1).await;
    assert_eq!(share(&hellos(&channel, 100).await, "a"), 100);
    let lines = log.warnings("too large");
    assert_eq!(lines.len(), 1, "{lines:?}");
    // A list that fits is followed.
    balancer.greet().await.list([entry(b.addr, "")]);
    reach(&channel, "b").await;
}

#[tokio::test]
async fn a_balancer_with_nothing_but_oversized_lists_is_asked_ever_more_rarely() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let started = Instant::now();
    for _ in 0..2 {
        balancer.greet().await.list(oversized(a.addr));
    }
    balancer.accept().await;
    // 1 s and then 1.6 s, less a fifth.
    assert!(started.elapsed().as_secs_f64() >= 0.8 + 1.28);
    let status = hello(&channel).await.unwrap_err();
    for wanted in ["too large", "4194304", &balancer.addr.to_string()] {
        let text = status.message();
        assert!(text.contains(wanted), "{wanted} is not in: {text}");
    }
}

#[tokio::test]
async fn a_hundred_thousand_entries_of_which_some_are_bad() {
    let log = Log::start();
    let mut balancer = Balancer::start().await;
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let channel = follow(&balancer);
    let bad = Server {
        port: 70_000,
        ..entry(a.addr, "")
    };
    let turns = [
        entry(a.addr, "a"),
        bad,
        entry(b.addr, "b"),
        entry(b.addr, "b"),
    ];
    let list: Vec<_> = turns.iter().cycle().take(100_000).cloned().collect();
    balancer.greet().await.list(list);
    reach(&channel, "b").await;
    reach(&channel, "a").await;
    let names = hellos(&channel, 300).await;
    assert_eq!((share(&names, "a"), share(&names, "b")), (100, 200));
    assert_eq!((a.connections(), b.connections()), (1, 1));
    let lines = log.warnings("bad entries");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("count=25000"), "{lines:?}");
    assert!(lines[0].contains("70000"), "{lines:?}");
}

#[tokio::test]
async fn one_that_lives_among_thousands_of_dead_is_found() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    // Port 1 of 127.1.0.0/16: nobody listens there.
    let dead =
        (1..3000).map(|place| SocketAddr::from(([127, 1, (place >> 8) as u8, place as u8], 1)));
    let mut list: Vec<_> = dead.map(|addr| entry(addr, "")).collect();
    list.push(entry(a.addr, "last"));
    balancer.greet().await.list(list);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    assert_eq!(share(&hellos(&channel, 100).await, "a"), 100);
}
