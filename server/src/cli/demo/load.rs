//! The demo's clients: one channel, a few calls at a time, counted by backend
//! and by the list they were made under.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use lookaside_client::Channel;
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backends::sender;

/// Counts of calls.
#[derive(Debug)]
pub(super) struct Load {
    backends: Vec<SocketAddr>,
    /// Answered calls by backend, under any list.
    answered: Vec<AtomicU64>,
    /// Answered calls by backend, under the list after the change.
    changed: Vec<AtomicU64>,
    failed: AtomicU64,
    first_failure: OnceLock<String>,
    /// Lists the channel had followed when the weight was changed; later ones
    /// are the list after the change. `u64::MAX` before.
    lists_at_change: AtomicU64,
    first_changed: OnceLock<Instant>,
}

impl Load {
    pub(super) fn new(backends: Vec<SocketAddr>) -> Arc<Self> {
        let counters = || backends.iter().map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self {
            answered: counters(),
            changed: counters(),
            failed: AtomicU64::new(0),
            first_failure: OnceLock::new(),
            lists_at_change: AtomicU64::new(u64::MAX),
            first_changed: OnceLock::new(),
            backends,
        })
    }

    /// Calls one after another until `stop`.
    pub(super) async fn run(self: Arc<Self>, channel: Channel, stop: CancellationToken) {
        let mut greeter = GreeterClient::new(channel.clone());
        while !stop.is_cancelled() {
            let under_new = channel.lists_followed() > self.lists_at_change.load(Ordering::Relaxed);
            let request = HelloRequest {
                name: "demo".to_owned(),
            };
            match greeter.say_hello(request).await {
                Ok(reply) => self.count(&reply.into_inner().message, under_new),
                Err(status) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    let _ = self.first_failure.set(status.to_string());
                }
            }
        }
    }

    /// From now on, a list that is newer than `lists` is the one after the
    /// change.
    pub(super) fn expect_change(&self, lists: u64) {
        self.lists_at_change.store(lists, Ordering::Relaxed);
    }

    /// Forgets the calls under the changed list: there is a newer one.
    pub(super) fn recount(&self) {
        for calls in &self.changed {
            calls.store(0, Ordering::Relaxed);
        }
    }

    /// When the first call under the changed list was answered.
    pub(super) fn first_changed(&self) -> Option<Instant> {
        self.first_changed.get().copied()
    }

    /// Answered calls by backend so far.
    pub(super) fn answered(&self) -> Vec<u64> {
        read(&self.answered)
    }

    /// Answered calls by backend under the changed list.
    pub(super) fn changed(&self) -> Vec<u64> {
        read(&self.changed)
    }

    /// Failed calls so far.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Why the first of them failed.
    pub(super) fn first_failure(&self) -> Option<&str> {
        self.first_failure.get().map(String::as_str)
    }

    fn count(&self, message: &str, under_new: bool) {
        let from = sender(message);
        let Some(index) = self.backends.iter().position(|b| Some(*b) == from) else {
            return;
        };
        self.answered[index].fetch_add(1, Ordering::Relaxed);
        if under_new {
            self.changed[index].fetch_add(1, Ordering::Relaxed);
            let _ = self.first_changed.set(Instant::now());
        }
    }
}

fn read(counters: &[AtomicU64]) -> Vec<u64> {
    counters.iter().map(|c| c.load(Ordering::Relaxed)).collect()
}
