//! Going without a call failing.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::status::{BalancerState, Entry};
use super::{Phase, Registration};

/// Balancers have this long to hear a good-bye.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);

/// How long each part of [`Registration::drain_with`] may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainOptions {
    /// For balancers to take the backend out of their lists; 5 s.
    pub balancers: Duration,
    /// Then for the calls under way to end; 30 s.
    pub calls: Duration,
    /// Calls are over when none is under way and none has come for this long:
    /// clients take a moment to follow a new list. 250 ms.
    pub quiet: Duration,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Balancers that had the backend in their lists.
    pub balancers: usize,
    /// How many of them have none any more in which it is.
    pub acknowledged: usize,
    /// Calls that were still under way at the end.
    pub calls_left: u64,
}

impl Default for DrainOptions {
    fn default() -> Self {
        Self {
            balancers: Duration::from_secs(5),
            calls: Duration::from_secs(30),
            quiet: Duration::from_millis(250),
        }
    }
}

impl Drained {
    /// Whether every balancer knew in time and every call ended.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.acknowledged == self.balancers && self.calls_left == 0
    }
}

impl Registration {
    /// Goes without a call failing: tells the balancers, waits until no list has
    /// the backend any more, then until the calls under way are done, then says
    /// good-bye. All of it is bounded as [`DrainOptions`] says. When it is over,
    /// the server can shut down: it is a future to give to tonic's
    /// `serve_with_shutdown`.
    pub async fn drain(&self) -> Drained {
        self.drain_with(DrainOptions::default()).await
    }

    /// The same with bounds of your own.
    pub async fn drain_with(&self, options: DrainOptions) -> Drained {
        let begun = Instant::now();
        let balancers = self.board.read(|statuses| {
            let entries = statuses.values();
            entries.filter(|entry| may_be_listed(entry, begun)).count()
        });
        self.enter(Phase::Draining);
        let _ = timeout(options.balancers, self.unlisted()).await;
        let missing = self.board.read(|statuses| {
            let now = Instant::now();
            let entries = statuses.values();
            entries.filter(|entry| may_be_listed(entry, now)).count()
        });
        let _ = timeout(options.calls, self.load.idle(options.quiet)).await;
        self.leave().await;
        self.load.close();
        let drained = Drained {
            balancers,
            acknowledged: balancers.saturating_sub(missing),
            calls_left: self.load.in_flight(),
        };
        if drained.is_clean() {
            tracing::info!(balancers, "drained");
        } else {
            tracing::warn!(
                balancers,
                acknowledged = drained.acknowledged,
                calls_left = drained.calls_left,
                "drained as far as time allowed"
            );
        }
        drained
    }

    /// Waits until no balancer can have the backend in a list.
    async fn unlisted(&self) {
        loop {
            // A balancer that is lost stops mattering when its lease is over.
            let now = Instant::now();
            let lapse = self.board.read(|statuses| {
                let lost = statuses.values().filter(|entry| !is_registered(entry));
                let ends = lost.filter_map(|entry| entry.listed_until);
                ends.filter(|end| *end > now).min()
            });
            let unlisted = self.board.until(|statuses| {
                let now = Instant::now();
                !statuses.values().any(|entry| may_be_listed(entry, now))
            });
            let lapsed = async {
                match lapse {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = unlisted => return,
                () = lapsed => {}
            }
        }
    }
}

fn is_registered(entry: &Entry) -> bool {
    matches!(entry.state, BalancerState::Registered(_))
}

/// Whether a balancer may have the backend in its lists.
fn may_be_listed(entry: &Entry, now: Instant) -> bool {
    match entry.state {
        BalancerState::Drained => false,
        _ => is_registered(entry) || entry.listed_until.is_some_and(|until| until > now),
    }
}
