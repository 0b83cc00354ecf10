//! When a new plan goes out.
//!
//! Lanes, so that what hurts goes first and what is noise waits:
//!
//! | lane | what | when |
//! |---|---|---|
//! | [`Lane::Removal`] | a listed backend is no longer listed | at once, but one publish in 100 ms |
//! | [`Lane::Change`] | joins, and whatever an operator changed | the first after 100 ms without a publish at once; what follows after 100 ms of quiet, after 1 s at most |
//! | [`Lane::Weights`] | weights that a policy moved | at most every 5 s |
//! | [`Lane::Unlisted`] | what clients are not sent | at once, but one in 100 ms; no other lane waits for it |
//!
//! So clients are sent at most ten lists a second, and of a burst of joins the first, and
//! then one list with all that came until it paused, or each second.

use std::time::Duration;

/// Least time between two publishes, and the quiet awaited between two changes: short
/// against a person, long against a burst of events.
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
    /// Something that is in no list, as a label, or a backend that joins and is not
    /// found healthy yet.
    Unlisted,
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
    /// When clients were sent something.
    published: Option<Duration>,
    /// When anything was published, if only to those who look.
    shown: Duration,
    pending: Option<Pending>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    lane: Lane,
    first: Duration,
    last: Duration,
}

impl Pace {
    /// Something changed at `now` that makes the plan differ by `lane` from what is
    /// published.
    pub fn changed(&mut self, lane: Lane, now: Duration) {
        let new = Pending {
            lane,
            first: now,
            last: now,
        };
        let pending = self.pending.get_or_insert(new);
        if lane < pending.lane {
            // What was in no hurry before makes this neither wait nor go sooner. But a
            // change that waits is still to go out in its time.
            let first = (pending.lane == Lane::Change).then_some(pending.first);
            *pending = Pending {
                first: first.unwrap_or(now),
                ..new
            };
        }
        pending.last = now;
    }

    /// What changed was undone: nothing is left to publish.
    pub fn settled(&mut self) {
        self.pending = None;
    }

    /// The plan went out at `now`.
    pub fn published(&mut self, now: Duration) {
        let pending = self.pending.take();
        let unlisted = pending.is_some_and(|pending| pending.lane == Lane::Unlisted);
        if !unlisted || self.published.is_none() {
            self.published = Some(now);
        }
        self.shown = now;
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
            Lane::Change if published + QUIET <= pending.first => pending.first,
            Lane::Change => (pending.last + QUIET).min(pending.first + CHANGE_MAX),
            Lane::Weights => published + WEIGHTS_EVERY,
            Lane::Unlisted => self.shown + QUIET,
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
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn published_at_zero() -> Pace {
        let mut pace = Pace::default();
        pace.published(ms(0));
        pace
    }

    /// A publish: when, in which lane, and when the first and the most urgent of what
    /// it has came.
    #[derive(Debug, Clone, Copy)]
    struct Published {
        at: Duration,
        lane: Lane,
        urgent: Duration,
    }

    /// What goes out of these changes, each so many milliseconds after the one before,
    /// where it is looked whenever the pace says.
    fn published(changes: &[(u64, Lane)]) -> Vec<Published> {
        let mut pace = published_at_zero();
        let mut all = Vec::new();
        let mut pending: Option<(Lane, Duration)> = None;
        let mut look = |pace: &mut Pace, pending: &mut Option<(Lane, Duration)>, now, until| {
            let mut now: Duration = now;
            loop {
                match pace.decide(now) {
                    Some(Publish::Now) => {
                        pace.published(now);
                        let (lane, urgent) = pending.take().unwrap();
                        all.push(Published {
                            at: now,
                            lane,
                            urgent,
                        });
                    }
                    Some(Publish::At(at)) if at < until => now = at,
                    _ => return,
                }
            }
        };
        // Nothing was published for long before the first.
        let mut now = ms(10_000);
        for (index, (after, lane)) in changes.iter().enumerate() {
            now += ms(*after);
            pace.changed(*lane, now);
            match &mut pending {
                Some((urgent, _)) if *urgent <= *lane => {}
                _ => pending = Some((*lane, now)),
            }
            let next = changes.get(index + 1);
            let until = next.map_or(Duration::MAX, |(after, _)| now + ms(*after));
            look(&mut pace, &mut pending, now, until);
        }
        all
    }

    fn lane() -> impl Strategy<Value = Lane> {
        prop_oneof![
            Just(Lane::Removal),
            Just(Lane::Change),
            Just(Lane::Weights),
            Just(Lane::Unlisted)
        ]
    }

    proptest! {
        #[test]
        fn clients_are_sent_at_most_ten_lists_a_second(
            changes in proptest::collection::vec((0u64..400, lane()), 0..200),
        ) {
            let all = published(&changes);
            let listed: Vec<_> = all.iter().filter(|p| p.lane != Lane::Unlisted).collect();
            for pair in listed.windows(2) {
                prop_assert!(pair[1].at - pair[0].at >= QUIET, "{pair:?}");
            }
            for pair in listed.windows(2).filter(|pair| pair[1].lane == Lane::Weights) {
                prop_assert!(pair[1].at - pair[0].at >= WEIGHTS_EVERY, "{pair:?}");
            }
            let unlisted: Vec<_> = all.iter().filter(|p| p.lane == Lane::Unlisted).collect();
            for pair in unlisted.windows(2) {
                prop_assert!(pair[1].at - pair[0].at >= QUIET, "{pair:?}");
            }
        }

        #[test]
        fn nothing_is_held_longer_than_its_bound(
            changes in proptest::collection::vec((0u64..400, lane()), 0..200),
        ) {
            for published in published(&changes) {
                let held = published.at - published.urgent;
                let most = match published.lane {
                    Lane::Removal | Lane::Unlisted => QUIET,
                    Lane::Change => CHANGE_MAX,
                    Lane::Weights => WEIGHTS_EVERY,
                };
                prop_assert!(held <= most, "{published:?}");
            }
        }

        #[test]
        fn the_first_change_after_quiet_goes_out_at_once(
            before in proptest::collection::vec((0u64..400, lane()), 0..50),
            lane in prop_oneof![Just(Lane::Removal), Just(Lane::Change), Just(Lane::Unlisted)],
        ) {
            // Nothing is held longer than five seconds.
            let changes = [before, vec![(5_200, lane)]].concat();
            let last = published(&changes).pop().unwrap();
            prop_assert_eq!((last.at, last.lane), (last.urgent, lane));
        }

        #[test]
        fn a_burst_is_its_first_and_then_one_list_a_second_at_most(
            gaps in proptest::collection::vec(0u64..100, 1..300),
        ) {
            let changes: Vec<_> = gaps.iter().map(|gap| (*gap, Lane::Change)).collect();
            let lasted: u64 = gaps[1..].iter().sum();
            let all = published(&changes);
            prop_assert!(all.len() as u64 <= 2 + lasted / 1000, "{}", all.len());
        }
    }

    #[test]
    fn the_first_plan_goes_out_at_once() {
        for lane in [Lane::Weights, Lane::Unlisted] {
            let mut pace = Pace::default();
            assert_eq!(pace.decide(ms(0)), None);
            pace.changed(lane, ms(0));
            assert_eq!(pace.decide(ms(0)), Some(Publish::Now));
        }
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
    fn the_first_change_goes_out_at_once_and_the_next_after_quiet() {
        let mut pace = published_at_zero();
        pace.changed(Lane::Change, ms(500));
        assert_eq!(pace.decide(ms(500)), Some(Publish::Now));
        pace.published(ms(500));
        for at in [510, 600] {
            pace.changed(Lane::Change, ms(at));
            assert_eq!(pace.decide(ms(at)), Some(Publish::At(ms(at + 100))));
        }
        assert_eq!(pace.decide(ms(700)), Some(Publish::Now));
    }

    #[test]
    fn changes_that_follow_wait_for_quiet_but_never_over_a_second() {
        let mut pace = published_at_zero();
        for at in (50..1040).step_by(90) {
            pace.changed(Lane::Change, ms(at));
            assert_eq!(
                pace.decide(ms(at)),
                Some(Publish::At(ms(at + 100).min(ms(1050))))
            );
        }
        assert_eq!(pace.decide(ms(1050)), Some(Publish::Now));
    }

    #[test]
    fn a_removal_takes_waiting_changes_along() {
        let mut pace = published_at_zero();
        pace.changed(Lane::Change, ms(90));
        pace.changed(Lane::Removal, ms(95));
        assert_eq!(pace.decide(ms(95)), Some(Publish::At(ms(100))));
        assert_eq!(pace.decide(ms(100)), Some(Publish::Now));
    }

    #[test]
    fn a_change_does_not_wait_with_weights_that_are_due_later() {
        let mut pace = published_at_zero();
        pace.changed(Lane::Weights, ms(50));
        assert_eq!(pace.decide(ms(50)), Some(Publish::At(ms(5000))));
        pace.changed(Lane::Change, ms(1500));
        assert_eq!(pace.decide(ms(1500)), Some(Publish::Now));
    }

    #[test]
    fn what_is_in_no_list_keeps_no_change_waiting() {
        let mut pace = published_at_zero();
        pace.changed(Lane::Unlisted, ms(500));
        assert_eq!(pace.decide(ms(500)), Some(Publish::Now));
        pace.published(ms(500));
        pace.changed(Lane::Unlisted, ms(510));
        assert_eq!(pace.decide(ms(510)), Some(Publish::At(ms(600))));
        pace.changed(Lane::Change, ms(520));
        assert_eq!(pace.decide(ms(520)), Some(Publish::Now));
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
        pace.changed(Lane::Change, ms(50));
        pace.settled();
        assert_eq!(pace.decide(ms(5000)), None);
    }
}
