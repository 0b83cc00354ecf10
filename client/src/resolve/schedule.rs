//! When to look again.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Reresolve;
use crate::backoff::Backoff;
use crate::until::until;

/// Time between the starts of two looks of which the first answered all, as in
/// gRPC, less [`JITTER`]: the longest that news waits to be asked for, and the
/// shortest that wishes wait for each other.
const INTERVAL: Duration = Duration::from_secs(30);
/// The share of an interval that is left out at random: clients that began together
/// do not go on together.
const JITTER: f64 = 0.2;
/// The shortest interval that records may ask for by their TTL.
const MIN_TTL: Duration = Duration::from_secs(2);

/// Spaces the looks of a resolver: after a good one it waits to be asked, and for
/// the interval to be over; after a bad one it looks again by itself, as nobody
/// else has a reason to ask.
#[derive(Debug)]
pub(super) struct LookupSchedule {
    backoff: Backoff,
    rng: fastrand::Rng,
    begun: Instant,
    /// Earliest time of the look behind a good one.
    next: Instant,
}

impl LookupSchedule {
    pub(super) fn new(rng: fastrand::Rng) -> Self {
        Self {
            backoff: Backoff::default(),
            rng,
            begun: Instant::now(),
            next: Instant::now(),
        }
    }

    /// A look begins.
    pub(super) fn begin(&mut self) {
        self.begun = Instant::now();
        self.next = self.begun + self.jittered(INTERVAL);
    }

    /// The look is over; waits until the next one is due. `good`: whether it
    /// answered all that was asked.
    pub(super) async fn pause(&mut self, good: bool, reresolve: &Reresolve) {
        self.pause_at_most(None, good, reresolve).await;
    }

    /// The same, but after a good look no longer than what was found holds, and than
    /// the interval.
    pub(super) async fn pause_for(
        &mut self,
        ttl: Option<Duration>,
        good: bool,
        reresolve: &Reresolve,
    ) {
        let ttl = ttl.unwrap_or(INTERVAL).clamp(MIN_TTL, INTERVAL);
        let stale = self.begun + self.jittered(ttl);
        self.pause_at_most(Some(stale), good, reresolve).await;
    }

    async fn pause_at_most(&mut self, stale: Option<Instant>, good: bool, reresolve: &Reresolve) {
        if good {
            self.backoff.reset();
            let wish = async {
                // A wish of before the interval is over is kept.
                reresolve.requested().await;
                sleep_until(self.next).await;
            };
            tokio::select! {
                () = wish => {}
                () = until(stale) => {}
            }
        } else {
            sleep(self.backoff.next_delay(&mut self.rng)).await;
        }
        reresolve.forget();
    }

    fn jittered(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(1.0 - JITTER * self.rng.f64())
    }
}
