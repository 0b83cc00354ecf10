//! What the messages of one stream may cost.
//!
//! A client reports once a second at most, in some hundred bytes. A message costs
//! what it takes to read it, not what it took to send it, and a stream may cost so
//! much at once and so much each second. What comes faster is taken off the wire
//! and not looked at: the stream of a client that goes on as it should loses
//! nothing, and is never ended.

use std::time::Duration;

use tokio::time::Instant;

/// What a stream may cost at once: a few hundred reports, or the longest message
/// twice.
const BURST: u64 = 128 * 1024;

/// What it may cost each second from then on.
const EACH_SECOND: u64 = 16 * 1024;

/// A stream's budget. One unit is about what it takes to decode a byte.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
    /// Up to when it was refilled.
    refilled: Instant,
}

impl Budget {
    /// A full budget.
    pub(super) fn new() -> Self {
        Self {
            left: BURST,
            refilled: Instant::now(),
        }
    }

    /// Pays for a message, if there is enough left.
    pub(super) fn pay(&mut self, cost: u64) -> bool {
        self.refill(self.refilled.elapsed());
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    fn refill(&mut self, passed: Duration) {
        let earned = passed.as_millis() * u128::from(EACH_SECOND) / 1000;
        let earned = u64::try_from(earned).unwrap_or(BURST).min(BURST);
        // What is less than a unit, or a millisecond, is counted the next time.
        if earned > 0 {
            self.left = (self.left + earned).min(BURST);
            self.refilled += passed;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;
    use crate::balance_load::request::MAX_REQUEST;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reports_each_second_is_always_read() {
        let mut pace = Budget::new();
        for _ in 0..10_000 {
            assert!(pace.pay(8 * 1024));
            advance(Duration::from_secs(1)).await;
        }
        assert!(pace.pay(MAX_REQUEST as u64 + 1024));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_read_and_what_follows_waits_for_its_time() {
        let mut pace = Budget::new();
        let burst = (0..).take_while(|_| pace.pay(64)).count();
        assert_eq!(burst as u64, BURST / 64);
        advance(Duration::from_millis(1)).await;
        assert!(!pace.pay(64));
        advance(Duration::from_millis(9)).await;
        assert!(pace.pay(64));
    }

    proptest! {
        #[test]
        fn no_stream_costs_more_than_its_budget(
            steps in prop::collection::vec((0u64..200_000, 0u64..2_000), 0..200),
        ) {
            let mut pace = Budget::new();
            let (mut paid, mut passed) = (0, 0);
            for (cost, millis) in steps {
                passed += millis;
                pace.refill(Duration::from_millis(millis));
                if pace.left >= cost {
                    pace.left -= cost;
                    paid += cost;
                }
                prop_assert!(paid <= BURST + passed * EACH_SECOND / 1000 + 1);
            }
        }
    }
}
