//! When to look again.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Reresolve;
use crate::backoff::Backoff;

/// Shortest time between the starts of two looks of which the first answered
/// all, as in gRPC.
const MIN_INTERVAL: Duration = Duration::from_secs(30);

/// Spaces the looks of a resolver: after a good one it waits to be asked, and for
/// the interval to be over; after a bad one it looks again by itself, as nobody
/// else has a reason to ask.
#[derive(Debug)]
pub(super) struct Pace {
    backoff: Backoff,
    rng: fastrand::Rng,
    /// Earliest time of the look behind a good one.
    next: Instant,
}

impl Pace {
    pub(super) fn new(rng: fastrand::Rng) -> Self {
        Self {
            backoff: Backoff::default(),
            rng,
            next: Instant::now(),
        }
    }

    /// A look begins.
    pub(super) fn begin(&mut self) {
        self.next = Instant::now() + MIN_INTERVAL;
    }

    /// The look is over; waits until the next one is due. `good`: whether it
    /// answered all that was asked.
    pub(super) async fn pause(&mut self, good: bool, reresolve: &Reresolve) {
        if good {
            self.backoff.reset();
            // A wish of before the interval is over is kept.
            reresolve.requested().await;
            sleep_until(self.next).await;
        } else {
            sleep(self.backoff.next_delay(&mut self.rng)).await;
        }
        reresolve.forget();
    }
}
