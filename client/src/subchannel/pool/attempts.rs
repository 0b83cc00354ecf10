//! Which attempts to connect may run, and which wait for their turn: a list of
//! 100 000 backends must not open 100 000 sockets at once.
//!
//! Most attempts are over in milliseconds, one way or the other; those to hosts
//! that do not answer last until their timeout, 20 s. If they kept their places
//! that long, a list half of which is dead would hold up its living half for
//! hours. So an attempt counts among the [`AT_ONCE`] only while it is young, and
//! when there are [`MOST`] in all, one that had its time gives way, as if it had
//! timed out. Its next attempts get longer, as the backoff does.
//!
//! Pure: the time is passed in.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Most attempts that are [`YOUNG`] at a time.
pub(super) const AT_ONCE: usize = 128;
/// How long an attempt is young: as long as one waits for an address before trying
/// the next beside it (RFC 8305).
const YOUNG: Duration = Duration::from_millis(250);
/// Most attempts at a time, young and old.
pub(super) const MOST: usize = 640;

/// The attempts that run, and the queue.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// In the order of their wishes. An entry may be out of date.
    waiting: VecDeque<usize>,
    /// By start and place: when each may be made to give way.
    running: BTreeMap<(Instant, usize), Instant>,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is the turn of this place.
    Start(usize),
    /// The attempt of this place gives way to others.
    End(usize),
}

impl Attempts {
    /// Puts `place` at the end of the queue.
    pub(super) fn enqueue(&mut self, place: usize) {
        self.waiting.push_back(place);
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// An attempt has started `now`, and keeps its place for `time` at least.
    pub(super) fn started(&mut self, place: usize, now: Instant, time: Duration) {
        self.running.insert((now, place), now + time);
    }

    /// The attempt of `place` that started at `start` is over.
    pub(super) fn ended(&mut self, place: usize, start: Instant) {
        self.running.remove(&(start, place));
    }

    /// What to do next; `None` until an attempt ends or [`Attempts::next_due`].
    pub(super) fn step(&mut self, now: Instant) -> Option<Step> {
        if self.waiting.is_empty() || self.is_full(now) {
            return None;
        }
        if self.running.len() < MOST {
            return self.waiting.pop_front().map(Step::Start);
        }
        let over = self.running.iter().filter(|(_, until)| **until <= now);
        let (start, place) = *over.min_by_key(|(_, until)| **until)?.0;
        self.ended(place, start);
        Some(Step::End(place))
    }

    /// When there is something to do, even if no attempt ends until then.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        if self.is_full(now) {
            return self.young(now).last().map(|start| start + YOUNG);
        }
        self.running.values().min().copied()
    }

    fn is_full(&self, now: Instant) -> bool {
        self.young(now).nth(AT_ONCE - 1).is_some()
    }

    /// When the young ones started, the youngest first.
    fn young(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let starts = self.running.keys().rev().map(|(start, _)| *start);
        starts.take_while(move |start| now < *start + YOUNG)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue(count: usize) -> Attempts {
        let mut attempts = Attempts::default();
        (0..count).for_each(|place| attempts.enqueue(place));
        attempts
    }

    #[tokio::test]
    async fn turns_are_in_order_and_at_most_so_many_at_once() {
        let now = Instant::now();
        let mut attempts = queue(1000);
        for place in 0..AT_ONCE {
            assert_eq!(attempts.step(now), Some(Step::Start(place)));
            attempts.started(place, now, SECOND);
        }
        assert_eq!(attempts.step(now), None);
        assert_eq!(attempts.next_due(now), Some(now + YOUNG));
        attempts.ended(3, now);
        assert_eq!(attempts.step(now), Some(Step::Start(AT_ONCE)));
        // Once they are old, the next are let in beside them.
        attempts.started(AT_ONCE, now, SECOND);
        assert_eq!(attempts.step(now + YOUNG), Some(Step::Start(AT_ONCE + 1)));
    }

    #[tokio::test]
    async fn nobody_gives_way_before_his_time_or_without_need() {
        let now = Instant::now();
        let mut attempts = queue(0);
        for place in 0..MOST {
            attempts.started(place, now, SECOND + Duration::from_millis(place as u64));
        }
        assert_eq!(attempts.step(now + SECOND), None);
        assert_eq!(attempts.next_due(now + SECOND), None);
        attempts.enqueue(MOST);
        assert_eq!(attempts.step(now + YOUNG), None);
        assert_eq!(attempts.next_due(now + YOUNG), Some(now + SECOND));
        assert_eq!(attempts.step(now + SECOND), Some(Step::End(0)));
        assert_eq!(attempts.step(now + SECOND), Some(Step::Start(MOST)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Attempts that never end by themselves: the bounds hold, everyone's turn
        /// comes, and what is due is due later than now.
        #[test]
        fn every_turn_comes(count in 1usize..3000, times in 1u64..20) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut now = runtime.block_on(async { Instant::now() });
            let mut attempts = queue(count);
            let mut started = 0;
            while started < count {
                match attempts.step(now) {
                    Some(Step::Start(place)) => {
                        prop_assert_eq!(place, started);
                        started += 1;
                        attempts.started(place, now, SECOND * (1 + place as u32 % times as u32));
                        prop_assert!(attempts.running.len() <= MOST);
                        prop_assert!(attempts.young(now).count() <= AT_ONCE);
                    }
                    Some(Step::End(_)) => {}
                    None => {
                        let due = attempts.next_due(now).unwrap();
                        prop_assert!(due > now);
                        now = due;
                    }
                }
            }
        }
    }
}
