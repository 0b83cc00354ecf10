//! When a new plan goes out.
//!
//! Three lanes, so that what hurts goes first and what is noise waits:
//!
//! | lane | what | when |
//! |---|---|---|
//! | [`Lane::Removal`] | a listed backend is no longer listed | the first at once, then one publish in 100 ms |
//! | [`Lane::Change`] | joins, and whatever an operator changed | after 100 ms of quiet, after 1 s at most |
//! | [`Lane::Weights`] | weights that a policy moved | at most every 5 s |

use std::time::Duration;

/// Least time between two publishes of removals, and the quiet awaited before
/// a change: short against a person, long against a burst of events.
const QUIET: Duration = Duration::from_millis(100);

/// A change is not held back longer than this, however busy its source is.
const CHANGE_MAX: Duration = Duration::from_secs(1);

/// Least time between two publishes of weights that a policy moved.
const WEIGHTS_EVERY: Duration = Duration::from_secs(5);

/// How urgent a difference between two plans is; the first is most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// A listed backend is no longer listed.
    Removal,
    /// A join, or anything an operator changed.
    Change,
    /// Weights that a policy moved.
    Weights,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// Publish.
    Now,
    /// Ask again at this time, or when something changes.
    At(Duration),
}

/// Paces the publishes of one service. Times are since the service began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    published: Option<Duration>,
    pending: Option<Pending>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    lane: Lane,
    first: Duration,
    last: Duration,
}

impl Pace {
    /// Something changed at `now` that makes the plan differ by `lane`.
    pub fn changed(&mut self, lane: Lane, now: Duration) {
        let pending = self.pending.get_or_insert(Pending {
            lane,
            first: now,
            last: now,
        });
        pending.lane = pending.lane.min(lane);
        pending.last = now;
    }

    /// What changed was undone: nothing is left to publish.
    pub fn settled(&mut self) {
        self.pending = None;
    }

    /// The plan went out at `now`.
    pub fn published(&mut self, now: Duration) {
        self.published = Some(now);
        self.pending = None;
    }

    /// Whether to publish at `now`; `None` if nothing is pending.
    #[must_use]
    pub fn decide(&self, now: Duration) -> Option<Publish> {
        let pending = self.pending?;
        let Some(published) = self.published else {
            return Some(Publish::Now);
        };
        let at = match pending.lane {
            Lane::Removal => published + QUIET,
            Lane::Change => (pending.last + QUIET).min(pending.first + CHANGE_MAX),
            Lane::Weights => published + WEIGHTS_EVERY,
        };
        Some(if at <= now {
            Publish::Now
        } else {
            Publish::At(at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn published_at_zero() -> Pace {
        let mut pace = Pace::default();
        pace.published(ms(0));
        pace
    }

    #[test]
    fn the_first_plan_goes_out_at_once() {
        let mut pace = Pace::default();
        assert_eq!(pace.decide(ms(0)), None);
        pace.changed(Lane::Weights, ms(0));
        assert_eq!(pace.decide(ms(0)), Some(Publish::Now));
    }

    #[test]
    fn the_first_removal_goes_out_at_once_and_the_next_100_ms_later() {
        let mut pace = published_at_zero();
        pace.changed(Lane::Removal, ms(500));
        assert_eq!(pace.decide(ms(500)), Some(Publish::Now));
        pace.published(ms(500));
        pace.changed(Lane::Removal, ms(510));
        assert_eq!(pace.decide(ms(510)), Some(Publish::At(ms(600))));
        assert_eq!(pace.decide(ms(600)), Some(Publish::Now));
    }

    #[test]
    fn a_change_waits_for_quiet_but_never_over_a_second() {
        let mut pace = published_at_zero();
        for at in (1000..1990).step_by(90) {
            pace.changed(Lane::Change, ms(at));
            assert_eq!(
                pace.decide(ms(at)),
                Some(Publish::At(ms(at + 100).min(ms(2000))))
            );
        }
        assert_eq!(pace.decide(ms(2000)), Some(Publish::Now));
    }

    #[test]
    fn a_removal_takes_waiting_changes_along() {
        let mut pace = published_at_zero();
        pace.changed(Lane::Change, ms(1000));
        pace.changed(Lane::Removal, ms(1010));
        assert_eq!(pace.decide(ms(1010)), Some(Publish::Now));
    }

    #[test]
    fn weights_move_at_most_every_five_seconds() {
        let mut pace = published_at_zero();
        pace.changed(Lane::Weights, ms(100));
        assert_eq!(pace.decide(ms(100)), Some(Publish::At(ms(5000))));
    }

    #[test]
    fn what_is_undone_is_not_published() {
        let mut pace = published_at_zero();
        pace.changed(Lane::Change, ms(1000));
        pace.settled();
        assert_eq!(pace.decide(ms(5000)), None);
    }
}
