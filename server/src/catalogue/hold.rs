//! Backends that vanished together with most of their source's. It is likelier that the
//! source lost sight of them than that they are gone, so they stay listed for a while.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use lookaside_core::model::BackendAddr;
use lookaside_core::plan::MemberFields;

/// How long backends stay listed after they vanished with most of their source's.
pub const HOLD: Duration = Duration::from_secs(30);

/// Backends that vanish within this time vanish at once.
const AT_ONCE: Duration = Duration::from_secs(10);

/// What one source no longer lists, and what of it is held.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// When backends vanished that are not held.
    vanished: VecDeque<Instant>,
    held: BTreeMap<BackendAddr, Held>,
}

#[derive(Debug)]
struct Held {
    fields: MemberFields,
    until: Instant,
}

impl Hold {
    /// `gone` vanished now, and `left` backends are still there. Holds them if by now more
    /// vanished at once than are left.
    pub(super) fn vanish(
        &mut self,
        gone: Vec<(BackendAddr, MemberFields)>,
        left: usize,
        now: Instant,
    ) {
        while self.vanished.front().is_some_and(|at| *at + AT_ONCE <= now) {
            self.vanished.pop_front();
        }
        if self.vanished.len() + self.held.len() + gone.len() <= left {
            self.vanished.extend(gone.iter().map(|_| now));
            return;
        }
        let until = now + HOLD;
        for (addr, fields) in gone {
            self.held.insert(addr, Held { fields, until });
        }
    }

    /// A backend is there again, or known to be gone. Returns whether it was held.
    pub(super) fn release(&mut self, backend: BackendAddr) -> bool {
        self.held.remove(&backend).is_some()
    }

    /// Lets go of those that were held long enough; returns whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.held.len();
        self.held.retain(|_, held| held.until > now);
        self.held.len() != before
    }

    /// When the next ones are let go.
    pub(super) fn next(&self) -> Option<Instant> {
        self.held.values().map(|held| held.until).min()
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Those that are held, with what was stated of them last.
    pub(super) fn backends(&self) -> impl Iterator<Item = (BackendAddr, MemberFields)> {
        let held = self.held.iter();
        held.map(|(addr, held)| (*addr, held.fields.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn addr(index: u16) -> BackendAddr {
        let [high, low] = index.to_be_bytes();
        format!("10.0.{high}.{low}:80").parse().unwrap()
    }

    fn gone(indices: impl IntoIterator<Item = u16>) -> Vec<(BackendAddr, MemberFields)> {
        let backends = indices.into_iter();
        backends
            .map(|index| (addr(index), MemberFields::default()))
            .collect()
    }

    #[test]
    fn most_that_vanish_are_held_and_half_are_not() {
        let now = Instant::now();
        let mut hold = Hold::default();
        hold.vanish(gone(1..=5), 5, now);
        assert_eq!((hold.len(), hold.next()), (0, None));
        // The sixth of ten, within the same ten seconds.
        hold.vanish(gone(6..=6), 4, now + Duration::from_secs(9));
        assert_eq!(hold.len(), 1);
        let until = now + Duration::from_secs(9) + HOLD;
        assert_eq!(hold.next(), Some(until));
        assert!(!hold.expire(until - Duration::from_millis(1)));
        assert!(hold.expire(until));
        assert_eq!(hold.len(), 0);
    }

    #[test]
    fn those_that_vanish_one_by_one_over_a_long_time_are_not_held() {
        let mut now = Instant::now();
        let mut hold = Hold::default();
        for index in 1..=8 {
            hold.vanish(gone([index]), usize::from(9 - index), now);
            now += AT_ONCE;
        }
        assert_eq!(hold.len(), 0);
        hold.vanish(gone([9]), 0, now);
        assert_eq!(hold.len(), 1, "the last one is most of what there was");
    }

    proptest! {
        /// Whatever vanishes and returns: no step takes more than half of what was listed
        /// before, nothing is held that is there, and nothing longer than the hold.
        #[test]
        fn no_step_takes_most_of_what_is_listed(
            steps in proptest::collection::vec(
                (0u64..20_000, proptest::collection::btree_set(0u16..20, 0..20)),
                1..40,
            ),
        ) {
            let mut now = Instant::now();
            let mut hold = Hold::default();
            let mut said: BTreeSet<u16> = (0..20).collect();
            for (millis, next) in steps {
                now += Duration::from_millis(millis);
                hold.expire(now);
                let before = said.len() + hold.len();
                let vanished: Vec<u16> = said.difference(&next).copied().collect();
                for index in &next {
                    hold.release(addr(*index));
                }
                let returned = next.difference(&said).count();
                let left = said.intersection(&next).count() + returned;
                hold.vanish(gone(vanished.iter().copied()), left, now);
                said = next;
                let listed = said.len() + hold.len();
                prop_assert!(2 * listed >= before, "{before} to {listed}");
                let held: BTreeSet<BackendAddr> = hold.backends().map(|(addr, _)| addr).collect();
                prop_assert!(said.iter().all(|index| !held.contains(&addr(*index))));
                prop_assert!(hold.next().is_none_or(|at| at > now && at <= now + HOLD));
            }
        }
    }
}
