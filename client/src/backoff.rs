//! gRPC's connection backoff (gRPC's `connection-backoff.md`): how long to wait
//! before the next attempt, so that a fleet that lost a peer does not return
//! as one wave.
//!
//! Pure arithmetic: the random numbers are passed in, so a test can replay
//! them, and nothing here sleeps.

use std::time::Duration;

/// Delays between attempts: 1 s at first, ×1.6 after each failure, ±20 %,
/// never over 120 s.
///
/// ```
/// use lookaside_client::backoff::Backoff;
///
/// let mut rng = fastrand::Rng::with_seed(1);
/// let mut backoff = Backoff::default();
/// let first = backoff.next_delay(&mut rng);
/// assert!(first.as_secs_f64() >= 0.8 && first.as_secs_f64() <= 1.2);
/// backoff.reset(); // after a success
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
}

impl Backoff {
    /// Delay after the first failure, before jitter.
    pub const INITIAL: Duration = Duration::from_secs(1);
    /// Growth from one failure to the next.
    pub const MULTIPLIER: f64 = 1.6;
    /// Share of the delay by which it may be longer or shorter.
    pub const JITTER: f64 = 0.2;
    /// Longest delay, jitter included.
    pub const MAX: Duration = Duration::from_secs(120);

    /// The delay before the next attempt; the one after it will be longer.
    pub fn next_delay(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let delay = jittered(self.base, Self::JITTER, rng).min(Self::MAX);
        self.base = self.base.mul_f64(Self::MULTIPLIER).min(Self::MAX);
        delay
    }

    /// The delay that would be next, before jitter.
    #[must_use]
    pub fn current(&self) -> Duration {
        self.base
    }

    /// Start over: the last attempt succeeded.
    pub fn reset(&mut self) {
        self.base = Self::INITIAL;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Self::INITIAL,
        }
    }
}

/// `duration` made longer or shorter by up to the share `jitter`, 0 to 1.
#[must_use]
pub fn jittered(duration: Duration, jitter: f64, rng: &mut fastrand::Rng) -> Duration {
    let jitter = jitter.clamp(0.0, 1.0);
    duration.mul_f64(1.0 + jitter * (2.0 * rng.f64() - 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_grow_by_1_6_to_120_seconds() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::default();
        let mut wanted = 1.0_f64;
        for _ in 0..30 {
            let delay = backoff.next_delay(&mut rng).as_secs_f64();
            assert!(delay >= wanted * 0.799, "{delay} for {wanted}");
            assert!(delay <= (wanted * 1.201).min(120.0), "{delay} for {wanted}");
            wanted = (wanted * 1.6).min(120.0);
        }
    }

    #[test]
    fn success_starts_over() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.next_delay(&mut rng);
        }
        backoff.reset();
        assert!(backoff.next_delay(&mut rng) <= Duration::from_millis(1200));
    }

    proptest! {
        #[test]
        fn no_seed_leaves_the_range(seed: u64, failures in 0usize..200) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut backoff = Backoff::default();
            for _ in 0..failures {
                let delay = backoff.next_delay(&mut rng);
                prop_assert!(delay >= Duration::from_millis(800));
                prop_assert!(delay <= Backoff::MAX);
            }
        }
    }
}
