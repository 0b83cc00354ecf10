//! Parts of lists: the backends of a zone, or all, dealt to groups.

use std::collections::BTreeMap;

use super::deal::{Card, deal};
use super::layout::{Layout, groups_for};
use crate::model::{Zone, hash};
use crate::plan::Member;

/// Backends that are dealt together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pool {
    /// All.
    All,
    /// Those of a zone that has clients: index of [`Layout::zones`].
    Zone(usize),
    /// Those of other zones, or of none.
    Elsewhere,
}

/// Backends and the groups they were dealt to. What is dealt stays until another
/// backend is there.
#[derive(Debug)]
pub(super) struct Part {
    cards: Vec<Card>,
    /// The cards' members, by index.
    members: Vec<u32>,
    /// Into so many groups they are dealt in a round.
    per_round: usize,
    /// By group of the layout, indexes of `cards`.
    groups: Vec<Vec<u32>>,
}

impl Part {
    /// Deals the listed members of a pool to all groups of `layout`, about
    /// `seats` to each. `pools` says where each member belongs.
    pub(super) fn deal(
        before: Option<Self>,
        (members, pools): (&[Member], &[Pool]),
        layout: &Layout,
        (pool, seats): (Pool, usize),
    ) -> Self {
        let (mut cards, mut indexes) = (Vec::new(), Vec::new());
        for (index, (member, own)) in members.iter().zip(pools).enumerate() {
            if member.listed && (pool == Pool::All || pool == *own) {
                cards.push(Card::new(hash(member.addr), member.operator.value()));
                indexes.push(index as u32);
            }
        }
        let per_round = before.as_ref().map(|part| part.per_round);
        let per_round = groups_for(cards.len(), seats, per_round).min(layout.groups());
        if let Some(mut same) = before
            && same.per_round == per_round
            && same.groups.len() == layout.groups()
            && same.cards == cards
        {
            same.members = indexes;
            return same;
        }
        let mut groups = vec![Vec::new(); layout.groups()];
        for round in 0..layout.groups().div_ceil(per_round) {
            for (card, group) in (0u32..).zip(deal(&cards, per_round, round)) {
                // The last round may have groups that nobody is in.
                if let Some(group) = groups.get_mut(round * per_round + usize::from(group)) {
                    group.push(card);
                }
            }
        }
        Self {
            cards,
            members: indexes,
            per_round,
            groups,
        }
    }

    /// The members of a group, by index.
    pub(super) fn group(&self, group: usize) -> impl Iterator<Item = u32> + Clone {
        let cards = self.groups[group].iter();
        cards.map(|card| self.members[*card as usize])
    }
}

impl Pool {
    /// The pool of each member's zone.
    pub(super) fn of(members: &[Member], layout: &Layout) -> Vec<Self> {
        let zones = layout.zones().iter().enumerate();
        let zones: BTreeMap<&Zone, usize> = zones.map(|(index, zone)| (zone, index)).collect();
        let pool = |member: &Member| {
            let zone = member.zone.as_ref().and_then(|zone| zones.get(zone));
            zone.map_or(Self::Elsewhere, |index| Self::Zone(*index))
        };
        members.iter().map(pool).collect()
    }
}

/// How many backends of a zone a list has that gets this share of its calls from
/// there. In steps of two: a share that moves a little moves no backend.
pub(super) fn seats(subset: usize, share: f64) -> usize {
    let mut seats = subset;
    while seats > 1 && (seats / 2) as f64 >= subset as f64 * share {
        seats /= 2;
    }
    seats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_room_for_its_share() {
        assert_eq!(seats(100, 1.0), 100);
        assert_eq!(seats(100, 0.51), 100);
        assert_eq!(seats(100, 0.5), 50);
        assert_eq!(seats(100, 0.2), 25);
        assert_eq!(seats(100, 1e-9), 1);
        assert_eq!(seats(1, 0.1), 1);
    }
}
