//! Which backends a group of clients gets.
//!
//! In a round every backend is dealt to one group, and the groups are equally
//! large. What a backend prefers follows from hashes of its address, and each
//! group takes, block by block of similar weights, as many as it has seats; who
//! finds the first choice full goes to the next. So the same backends are dealt
//! the same way by every replica and after every restart, and one that comes or
//! goes moves two or three others in a round.

use super::rendezvous::score;

/// A backend, as far as dealing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Card {
    /// Hash of its address.
    pub(super) id: u64,
    /// Its weight, roughly: the larger, the heavier.
    pub(super) class: u64,
}

impl Card {
    /// A card for a backend of this weight, which is above 0 and finite.
    pub(super) fn new(id: u64, weight: f64) -> Self {
        // The exponent and the highest bit behind it: two classes to each power
        // of two.
        let class = weight.to_bits() >> 51;
        Self { id, class }
    }
}

/// The group of each card in a round. The sizes of the groups differ by one at
/// most, and so do the numbers of cards of a class. `groups` is at least one.
pub(super) fn deal(cards: &[Card], groups: usize, round: usize) -> Vec<u16> {
    let mut dealt = vec![0u16; cards.len()];
    if groups < 2 {
        return dealt;
    }
    let keys: Vec<u64> = (0..groups).map(|group| key(round, group)).collect();
    let ranks = ranks(&keys);
    let mut order: Vec<usize> = (0..cards.len()).collect();
    let turn = |index: &usize| {
        let card = cards[*index];
        (std::cmp::Reverse(card.class), score(card.id, round as u64))
    };
    order.sort_by_cached_key(turn);
    let mut done = 0;
    for block in order.chunk_by(|a, b| cards[*a].class == cards[*b].class) {
        // Seats of the heavier blocks and of this one, together, are shared out
        // evenly: so nobody gets the larger half of every block.
        let seats = |end: usize, rank: usize| (end + rank) / groups;
        let end = done + block.len();
        let mut left: Vec<usize> = ranks
            .iter()
            .map(|rank| seats(end, *rank) - seats(done, *rank))
            .collect();
        for index in block {
            let open = (0..groups).filter(|group| left[*group] > 0);
            let best = open.max_by_key(|group| score(cards[*index].id, keys[*group]));
            let group = best.unwrap_or_default();
            left[group] = left[group].saturating_sub(1);
            dealt[*index] = group as u16;
        }
        done = end;
    }
    dealt
}

/// What a group is known by, whatever other groups there are.
pub(super) fn key(round: usize, group: usize) -> u64 {
    score(round as u64 + 1, group as u64 + 1)
}

/// The place of each key among all: who gets a seat more where they do not come
/// out even.
fn ranks(keys: &[u64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|index| keys[*index]);
    let mut ranks = vec![0; keys.len()];
    for (rank, index) in order.into_iter().enumerate() {
        ranks[index] = rank;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cards(ids: &[u64], classes: u64) -> Vec<Card> {
        let card = |id: &u64| Card {
            id: *id,
            class: score(*id, 7) % classes,
        };
        ids.iter().map(card).collect()
    }

    fn sizes(dealt: &[u16], groups: usize) -> Vec<usize> {
        let mut sizes = vec![0; groups];
        for group in dealt {
            sizes[usize::from(*group)] += 1;
        }
        sizes
    }

    fn even(sizes: &[usize]) -> bool {
        let least = sizes.iter().min().copied().unwrap_or_default();
        sizes.iter().all(|size| *size <= least + 1)
    }

    proptest! {
        #[test]
        fn groups_are_equally_large_and_equally_heavy(
            ids in proptest::collection::vec(any::<u64>(), 1..400),
            groups in 1usize..40,
            classes in 1u64..4,
            round in 0usize..8,
        ) {
            let cards = cards(&ids, classes);
            let dealt = deal(&cards, groups, round);
            prop_assert!(even(&sizes(&dealt, groups)));
            for class in 0..classes {
                let of_class = cards.iter().zip(&dealt).filter(|(card, _)| card.class == class);
                let of_class: Vec<u16> = of_class.map(|(_, group)| *group).collect();
                let sizes = sizes(&of_class, groups);
                let least = sizes.iter().min().unwrap();
                prop_assert!(sizes.iter().all(|size| *size <= least + 2));
            }
        }

        #[test]
        fn one_that_comes_or_goes_moves_few_others(
            seed: u64,
            count in 20usize..300,
            size in 4usize..40,
        ) {
            let ids: Vec<u64> = (0..count as u64).map(|index| score(seed, index)).collect();
            let groups = count.div_ceil(size);
            let mut moved = 0;
            for round in 0..8 {
                let all = deal(&cards(&ids, 1), groups, round);
                let without = deal(&cards(&ids[1..], 1), groups, round);
                moved += all[1..].iter().zip(&without).filter(|(a, b)| a != b).count();
            }
            // Two or three in a round on average; the logarithm of groups.
            let most = 8.0 * (3.0 + 2.0 * (groups as f64).ln());
            prop_assert!((moved as f64) <= most, "{moved} of {count} moved");
        }

        #[test]
        fn one_group_more_takes_little_more_than_its_share(seed: u64, groups in 3usize..20) {
            let ids: Vec<u64> = (0..groups as u64 * 20).map(|i| score(seed, i)).collect();
            let cards = cards(&ids, 1);
            let (before, after) = (deal(&cards, groups, 0), deal(&cards, groups + 1, 0));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let share = ids.len() / (groups + 1);
            prop_assert!(moved <= 2 * share + share / 2 + 10, "{moved} for {share}");
        }
    }
}
