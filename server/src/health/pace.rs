//! How many checks there are at a time, and how often: no more than the balancer
//! itself can do. Who checks more than that finds silence where there is none.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use super::metrics::HealthMetrics;
use crate::subchannel::{Permits, at_most_5000_a_second};
use crate::wait::{NoAnswer, within};

/// Probes under way at a time that are young.
const AT_ONCE: usize = 256;

/// How long a probe counts among them: those of backends that hang must not hold
/// up the others.
const YOUNG: Duration = Duration::from_millis(100);

/// Of so many checks one that was late in a second is too many.
const TOLERATED: usize = 50;

/// What intervals are stretched by in a second with too many that were late, at
/// most in all, and in one without.
const STRETCH: (f64, f64, f64) = (1.5, 8.0, 0.95);

/// Less than that is not worth a word, nor a stretch.
const NOTICED: f64 = 1.05;

/// What all checks keep to.
#[derive(Debug)]
pub(super) struct ProbePace {
    checks: AtomicUsize,
    late: AtomicUsize,
    /// Bits of a number, 1 or more.
    stretch: AtomicU64,
    permits: Permits,
}

/// What the operator was told of it.
#[derive(Debug, Default)]
pub(super) struct StretchNews {
    stretched: bool,
}

impl Default for ProbePace {
    fn default() -> Self {
        Self {
            checks: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
            stretch: AtomicU64::new(1f64.to_bits()),
            permits: Permits::new(AT_ONCE),
        }
    }
}

impl ProbePace {
    /// How many checks there are.
    pub(super) fn checks(&self) -> usize {
        self.checks.load(Ordering::Relaxed)
    }

    pub(super) fn set_checks(&self, checks: usize) {
        self.checks.store(checks, Ordering::Relaxed);
    }

    /// How often to look at what should be looked at every `interval`.
    pub(super) fn interval(&self, interval: Duration) -> Duration {
        let stretch = f64::from_bits(self.stretch.load(Ordering::Relaxed));
        at_most_5000_a_second(interval, self.checks()).mul_f64(stretch)
    }

    /// Waits for an answer, once its turn to be asked for has come.
    pub(super) async fn ask<F: Future>(
        &self,
        patience: Duration,
        answer: F,
    ) -> Result<F::Output, NoAnswer> {
        let permit = self.permits.take().await;
        permit.hold(YOUNG, within(patience, answer)).await
    }

    /// A probe said nothing, because the balancer was late.
    pub(super) fn late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    /// A second has passed. `interval` is the shortest that an operator asks for.
    pub(super) fn step(&self, interval: Duration, metrics: &HealthMetrics, said: &mut StretchNews) {
        let late = self.late.swap(0, Ordering::Relaxed);
        let stretch = f64::from_bits(self.stretch.load(Ordering::Relaxed));
        let stretch = next(stretch, late, self.checks());
        self.stretch.store(stretch.to_bits(), Ordering::Relaxed);
        let checked = self.interval(interval);
        let ratio = checked.div_duration_f64(interval);
        metrics.stretched(ratio);
        let stretched = ratio > NOTICED;
        if stretched && !said.stretched {
            warn!(
                checks = self.checks(),
                ?interval,
                ?checked,
                "backends are checked less often than they should be: there are more than this \
                 balancer can check"
            );
        } else if !stretched && said.stretched {
            info!(?interval, "backends are checked as often as they should be");
        }
        said.stretched = stretched;
    }
}

/// The stretch after a second in which so many of so many checks were late.
fn next(stretch: f64, late: usize, checks: usize) -> f64 {
    let (growth, most, recovery) = STRETCH;
    if late > 0 && late.saturating_mul(TOLERATED) >= checks {
        return (stretch * growth).min(most);
    }
    let recovered = stretch * recovery;
    if recovered < NOTICED { 1.0 } else { recovered }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn intervals_are_stretched_while_the_balancer_is_late_and_recover() {
        let (pace, metrics) = (ProbePace::default(), HealthMetrics::default());
        let (second, mut said) = (Duration::from_secs(1), StretchNews::default());
        pace.set_checks(1000);
        // One in a thousand is bad luck.
        pace.late();
        pace.step(second, &metrics, &mut said);
        assert_eq!(pace.interval(second), second);
        assert!(!said.stretched);
        for _ in 0..20 {
            (0..20).for_each(|_| pace.late());
            pace.step(second, &metrics, &mut said);
        }
        assert_eq!(pace.interval(second), 8 * second);
        assert!(said.stretched);
        for _ in 0..60 {
            pace.step(second, &metrics, &mut said);
        }
        assert_eq!(pace.interval(second), second);
        assert!(!said.stretched);
        // Too many for one second are said, too.
        pace.set_checks(10_000);
        pace.step(second, &metrics, &mut said);
        assert!(said.stretched);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_are_asked_at_once_and_patience_begins_then() {
        let pace = ProbePace::default();
        let patience = Duration::from_millis(500);
        let slow = || pace.ask(patience, tokio::time::sleep(Duration::from_millis(90)));
        let answers = (0..AT_ONCE * 10).map(|_| slow());
        let answers = futures_util::future::join_all(answers).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok()));
    }

    proptest! {
        #[test]
        fn a_stretch_is_never_less_than_one_nor_out_of_bounds(
            lates in prop::collection::vec(0usize..100, 0..100), checks in 0usize..5000,
        ) {
            let mut stretch = 1.0;
            for late in lates {
                stretch = next(stretch, late, checks);
                prop_assert!((1.0..=STRETCH.1).contains(&stretch));
            }
        }
    }
}
