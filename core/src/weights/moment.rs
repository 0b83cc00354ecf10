//! Time, as the weights see it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment in the life of a service, in microseconds since it began; negative
/// for what a balancer before this one saw.
///
/// Whole numbers, so that what is saved as an age and loaded by another process
/// is the same to the last digit. A saved moment is one relative to the saving:
/// -5000000 is five seconds before it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    /// So long after the service began.
    #[must_use]
    pub fn new(since_start: Duration) -> Self {
        Self(micros(since_start))
    }

    /// Time from `earlier` to this; none if `earlier` is later, as it is after
    /// a clock jumped back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// The same in seconds.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.since(earlier).as_micros() as f64 / 1e6
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(micros(later)))
    }

    /// Time since the service began; none for what was before.
    #[must_use]
    pub fn since_start(self) -> Duration {
        self.since(Self(0))
    }

    /// What is as far from `to` as this is from `from`.
    #[must_use]
    pub fn moved(self, from: Self, to: Self) -> Self {
        Self(self.0.saturating_sub(from.0).saturating_add(to.0))
    }

    /// The moment that saved ones are relative to.
    pub(crate) const ZERO: Self = Self(0);
}

/// State that remembers moments, and can be taken to where time is counted
/// from another beginning.
pub(crate) trait Rebase {
    /// Moves every moment in it, so that what was `from` is `to`.
    fn rebase(&mut self, from: Moment, to: Moment);
}

impl Rebase for Moment {
    fn rebase(&mut self, from: Moment, to: Moment) {
        *self = self.moved(from, to);
    }
}

impl<T: Rebase> Rebase for Option<T> {
    fn rebase(&mut self, from: Moment, to: Moment) {
        if let Some(inner) = self {
            inner.rebase(from, to);
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_backwards_and_never_overflows() {
        let early = Moment::new(Duration::from_secs(1));
        let late = Moment::new(Duration::MAX);
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.plus(Duration::MAX), late);
        assert!(late.seconds_since(early).is_finite());
    }

    #[test]
    fn an_age_is_the_same_from_another_beginning() {
        let seen = Moment::new(Duration::from_secs(90));
        let now = Moment::new(Duration::from_secs(100));
        let saved = seen.moved(now, Moment::ZERO);
        let later = Moment::new(Duration::from_secs(3));
        assert_eq!(
            later.since(saved.moved(Moment::ZERO, later)),
            now.since(seen)
        );
    }
}
