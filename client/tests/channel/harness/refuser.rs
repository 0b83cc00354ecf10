//! An HTTP/2 server that takes no RPC: it refuses each, or says goodbye.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;

use super::{ANY_PORT, Process};

/// How to refuse.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    /// RST_STREAM with REFUSED_STREAM: not looked at.
    Stream,
    /// RST_STREAM with INTERNAL_ERROR: perhaps looked at.
    Error,
    /// The connection ends without a word.
    Cut,
}

pub(crate) struct Refuser {
    pub(crate) addr: SocketAddr,
    seen: Arc<AtomicUsize>,
    _process: Process,
}

impl Refuser {
    pub(crate) async fn start(how: Refusal) -> Self {
        let process = Process::new();
        let listener = process.listen(ANY_PORT).await;
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        process.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while let Some(Ok((_request, mut respond))) = connection.accept().await {
                        count.fetch_add(1, Ordering::SeqCst);
                        match how {
                            Refusal::Stream => respond.send_reset(Reason::REFUSED_STREAM),
                            Refusal::Error => respond.send_reset(Reason::INTERNAL_ERROR),
                            Refusal::Cut => return,
                        }
                    }
                });
            }
        });
        Self {
            addr,
            seen,
            _process: process,
        }
    }

    /// How many RPCs came here.
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}
