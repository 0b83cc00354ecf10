//! Which groups of clients a service has.

use std::net::IpAddr;
use std::sync::Arc;

use super::deal;
use crate::model::{Zone, ZoneTable};

/// Most lists of a service: zones times groups.
const MAX_LISTS: usize = 256;

/// How often each backend is dealt, if there is room for so many groups: so
/// many groups share what one backend's loss or a crowd in one group costs.
const ROUNDS: usize = 8;

/// The groups of a service. A client belongs to an *audience*, all clients of a
/// zone or those whose zone nobody knows, and in it to a group. Each has a list,
/// by number: audience by audience, in each round by round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    zones: Option<Arc<ZoneTable>>,
    rounds: usize,
    per_round: usize,
}

impl Default for Layout {
    /// All clients are one group.
    fn default() -> Self {
        Self {
            zones: None,
            rounds: 1,
            per_round: 1,
        }
    }
}

impl Layout {
    /// As many rounds of `per_round` groups as there may be; fewer groups if
    /// there may not be so many.
    #[must_use]
    pub fn new(zones: Option<Arc<ZoneTable>>, per_round: usize) -> Self {
        let audiences = zones.as_ref().map_or(0, |zones| zones.zones().len()) + 1;
        let most = (MAX_LISTS / audiences).max(1);
        let per_round = per_round.clamp(1, most);
        let rounds = if per_round == 1 {
            1
        } else {
            (most / per_round).min(ROUNDS)
        };
        Self {
            zones,
            rounds,
            per_round,
        }
    }

    /// How many lists there are.
    #[must_use]
    pub fn lists(&self) -> usize {
        self.audiences() * self.groups()
    }

    /// How many audiences there are: one for clients whose zone nobody knows,
    /// and one for each zone.
    #[must_use]
    pub fn audiences(&self) -> usize {
        self.zones().len() + 1
    }

    /// How many groups an audience has.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.rounds * self.per_round
    }

    /// The zones that have audiences: that of zone i is i + 1.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        self.zones.as_ref().map_or(&[], |zones| zones.zones())
    }

    /// The audience that a client belongs to.
    #[must_use]
    pub fn audience(&self, client: IpAddr) -> usize {
        let zone = self.zones.as_ref().and_then(|zones| zones.find(client));
        zone.map_or(0, |zone| zone + 1)
    }

    /// The list of a group of an audience.
    #[must_use]
    pub fn list(&self, audience: usize, group: usize) -> usize {
        audience * self.groups() + group
    }

    /// The audience and the group that get this list.
    #[must_use]
    pub fn of_list(&self, list: usize) -> (usize, usize) {
        (list / self.groups(), list % self.groups())
    }

    /// What a group is known by in any layout.
    #[must_use]
    pub fn key(&self, group: usize) -> u64 {
        deal::key(group / self.per_round, group % self.per_round)
    }

    /// The same group as `group` of another layout, if it is there.
    #[must_use]
    pub fn same_group(&self, other: &Self, group: usize) -> Option<usize> {
        let (round, number) = (group / other.per_round, group % other.per_round);
        (round < self.rounds && number < self.per_round).then(|| round * self.per_round + number)
    }
}

/// Into how many groups to deal `count` backends so that each has about `seats`
/// at most. The number from `before` stays while it is off by no more than a
/// tenth, for another one moves clients; but no group may be left without a
/// backend.
pub(super) fn groups_for(count: usize, seats: usize, before: Option<usize>) -> usize {
    let seats = seats.max(1);
    let near = |groups: &usize| {
        let (most, least) = (11 * groups * seats, 9 * groups.saturating_sub(1) * seats);
        10 * count <= most && (10 * count > least || *groups == 1) && *groups <= count.max(1)
    };
    before
        .filter(near)
        .unwrap_or_else(|| count.div_ceil(seats).max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_are_at_most_256_lists() {
        for (zones, wanted, groups) in [
            (0, 1, 1),
            (0, 15, 120),
            (0, 100, 200),
            (0, 1000, 256),
            (3, 15, 60),
            (64, 15, 3),
        ] {
            let zone = |index: i32| (index.to_string().into(), Vec::new());
            let table = ZoneTable::new((0..zones).map(zone).collect());
            let layout = Layout::new((zones > 0).then(|| Arc::new(table)), wanted);
            assert_eq!(layout.groups(), groups, "{zones} zones");
            assert!(layout.lists() <= MAX_LISTS);
        }
    }

    #[test]
    fn a_number_of_groups_stays_while_it_is_nearly_right() {
        assert_eq!(groups_for(300, 20, None), 15);
        assert_eq!(groups_for(301, 20, None), 16);
        assert_eq!(groups_for(301, 20, Some(15)), 15);
        assert_eq!(groups_for(330, 20, Some(15)), 15);
        assert_eq!(groups_for(331, 20, Some(15)), 17);
        assert_eq!(groups_for(253, 20, Some(15)), 15);
        assert_eq!(groups_for(252, 20, Some(15)), 13);
        assert_eq!(groups_for(101, 100, Some(1)), 1);
        assert_eq!(groups_for(3, 100, Some(1)), 1);
        assert_eq!(groups_for(0, 100, None), 1);
    }

    proptest! {
        #[test]
        fn groups_keep_their_names(from in 1usize..40, to in 1usize..40) {
            let (old, new) = (Layout::new(None, from), Layout::new(None, to));
            for group in 0..old.groups() {
                if let Some(same) = new.same_group(&old, group) {
                    prop_assert_eq!(new.key(same), old.key(group));
                }
            }
        }
    }
}
