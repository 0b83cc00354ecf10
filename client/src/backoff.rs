//! gRPC's connection backoff (gRPC's `connection-backoff.md`): how long to wait
//! before the next attempt, so that a fleet that lost a peer does not return
//! as one wave.
//!
//! Pure arithmetic: the random numbers are passed in, so a test can replay
//! them, and nothing here sleeps.

use std::time::Duration;

/// How delays grow from one failure to the next, with the parameters that gRPC has.
/// The default is gRPC's: 1 s, ×1.6, ±20 %, at most 120 s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffConfig {
    /// Delay after the first failure, before jitter; at least 1 ms.
    pub base: Duration,
    /// Growth from one failure to the next; at least 1, which is no growth.
    pub multiplier: f64,
    /// Share of the delay by which it may be longer or shorter, 0 to 1.
    pub jitter: f64,
    /// Longest delay, jitter included; at least `base`. [`Duration::MAX`] is no limit.
    pub max: Duration,
}

/// The least base: a peer that refuses must not keep a processor busy.
const LEAST: Duration = Duration::from_millis(1);
/// Thirty years, which are never: longer delays leave the range of clocks.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            base: Backoff::INITIAL,
            multiplier: Backoff::MULTIPLIER,
            jitter: Backoff::JITTER,
            max: Backoff::MAX,
        }
    }
}

impl BackoffConfig {
    /// The nearest values that make sense.
    fn in_range(self) -> Self {
        let base = self.base.clamp(LEAST, NEVER);
        Self {
            base,
            // Also what is not a number.
            multiplier: self.multiplier.max(1.0),
            // What is not a number is none.
            jitter: self.jitter.max(0.0).clamp(0.0, 1.0),
            max: self.max.clamp(base, NEVER),
        }
    }
}

/// Delays between attempts: 1 s at first, ×1.6 after each failure, ±20 %,
/// never over 120 s; or as a [`BackoffConfig`] says.
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
    config: BackoffConfig,
    /// The next delay, before jitter.
    next: Duration,
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

    /// Delays as `config` says; values out of range count as the nearest in it.
    #[must_use]
    pub fn with(config: BackoffConfig) -> Self {
        let config = config.in_range();
        Self {
            next: config.base,
            config,
        }
    }

    /// The delay before the next attempt; the one after it will be longer.
    pub fn next_delay(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let BackoffConfig {
            base,
            multiplier,
            jitter,
            max,
        } = self.config;
        let delay = jittered(self.next, jitter, rng).min(max);
        self.next = times(self.next, multiplier).clamp(base, max);
        delay
    }

    /// The delay that would be next, before jitter.
    #[must_use]
    pub fn current(&self) -> Duration {
        self.next
    }

    /// Start over: the last attempt succeeded.
    pub fn reset(&mut self) {
        self.next = self.config.base;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::with(BackoffConfig::default())
    }
}

fn times(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// `duration` made longer or shorter by up to the share `jitter`, 0 to 1.
#[must_use]
pub fn jittered(duration: Duration, jitter: f64, rng: &mut fastrand::Rng) -> Duration {
    let jitter = jitter.clamp(0.0, 1.0);
    times(duration, 1.0 + jitter * (2.0 * rng.f64() - 1.0))
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
        fn no_settings_leave_their_range_or_panic(
            seed: u64,
            base in proptest::option::of(0u64..1 << 40),
            max in proptest::option::of(0u64..1 << 40),
            multiplier: f64,
            jitter: f64,
        ) {
            let time = |ms: Option<u64>| ms.map_or(Duration::MAX, Duration::from_millis);
            let config = BackoffConfig { base: time(base), multiplier, jitter, max: time(max) };
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut backoff = Backoff::with(config);
            let longest = time(max).max(time(base)).max(LEAST).min(NEVER);
            for _ in 0..50 {
                prop_assert!(backoff.current() >= time(base).clamp(LEAST, NEVER));
                prop_assert!(backoff.next_delay(&mut rng) <= longest);
            }
            backoff.reset();
            prop_assert_eq!(backoff.current(), time(base).clamp(LEAST, NEVER));
        }

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
