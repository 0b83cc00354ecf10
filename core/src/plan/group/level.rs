//! What backends weigh inside groups, so that over all groups each gets what its
//! weight says.
//!
//! A backend's share of all calls is the sum, over the groups it is in, of the
//! group's share of all clients times the backend's share of the group's list.
//! Groups differ: in how many clients they have, and in what their backends weigh
//! together. Where that puts a backend off, it is listed with more or less than
//! its weight, by one factor in all its groups. The factors are found by
//! iterative proportional fitting: it ends with those that change the lists the
//! least.

/// Factors are kept within this of 1: with fewer clients than groups there may
/// be none that come out right.
const MOST: f64 = 4.0;

/// A backend's factor is left alone while its share is off by no more than this:
/// the first when clients are elsewhere than before, so that all lists are made
/// anew; else the second, for each backend is in several groups, and all their
/// clients would be told.
const NEAR: f64 = 0.02;
const FAR: f64 = 0.05;

/// Others are fitted until they are no further off than this, or for so many
/// rounds.
const CLOSE: f64 = 0.002;
const ROUNDS: usize = 30;

/// The mean of the factors may drift so far from 1.
const DRIFTED: f64 = 1.25;

/// A list: its backends by index, and what each weighs in it before any factor.
pub(super) type Weighed = Vec<(u32, f64)>;

/// Factors on the backends' weights, and the share of all calls that each then
/// gets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Level {
    pub(super) factors: Vec<f64>,
    pub(super) shares: Vec<f64>,
}

/// Finds factors for `lists`, which have these shares of all clients.
/// `targets` are the shares that the backends should get, `before` the factors
/// they had, for clients that are elsewhere now if `moved`.
pub(super) fn level<L: AsRef<Weighed>>(
    lists: &[L],
    clients: &[f64],
    targets: &[f64],
    before: &[f64],
    moved: bool,
) -> Level {
    let bound = if moved { NEAR } else { FAR };
    let mut factors = before.to_vec();
    let mut shares = shares(lists, clients, &factors);
    if !is_off(&shares, targets, bound) {
        return Level { factors, shares };
    }
    let mut fitted = vec![false; factors.len()];
    for _ in 0..ROUNDS {
        let mut done = true;
        for (index, factor) in factors.iter_mut().enumerate() {
            let (share, target) = (shares[index], targets[index]);
            fitted[index] |= off(share, target, bound);
            if fitted[index] && off(share, target, CLOSE) {
                // Who gets nothing is divided by nothing, and gets the most.
                *factor = (*factor * target / share).clamp(1.0 / MOST, MOST);
                done = false;
            }
        }
        if done {
            break;
        }
        shares = self::shares(lists, clients, &factors);
    }
    // Only ratios count. Lists are scaled by a mean that stays, so theirs has to.
    let mean: f64 = factors.iter().zip(targets).map(|(f, t)| f * t).sum();
    if !(1.0 / DRIFTED..=DRIFTED).contains(&mean) {
        for factor in &mut factors {
            *factor = (*factor / mean).clamp(1.0 / MOST, MOST);
        }
        shares = self::shares(lists, clients, &factors);
    }
    Level { factors, shares }
}

fn off(share: f64, target: f64, by: f64) -> bool {
    (share - target).abs() > by * target
}

fn is_off(shares: &[f64], targets: &[f64], by: f64) -> bool {
    let mut pairs = shares.iter().zip(targets);
    pairs.any(|(share, target)| off(*share, *target, by))
}

/// What share of all calls each backend gets.
fn shares<L: AsRef<Weighed>>(lists: &[L], clients: &[f64], factors: &[f64]) -> Vec<f64> {
    let mut shares = vec![0.0; factors.len()];
    for (list, clients) in lists.iter().zip(clients).filter(|(_, c)| **c > 0.0) {
        let list = list.as_ref();
        let weigh = |(index, weight): &(u32, f64)| weight * factors[*index as usize];
        let sum: f64 = list.iter().map(weigh).sum();
        if sum > 0.0 {
            for entry in list {
                shares[entry.0 as usize] += clients * weigh(entry) / sum;
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::deal::{Card, deal};
    use super::super::rendezvous::score;
    use super::*;

    /// Groups of eight rounds, of backends with these weights.
    fn dealt(weights: &[f64], size: usize) -> Vec<Weighed> {
        let cards = weights.iter().enumerate();
        let cards: Vec<Card> = cards
            .map(|(index, weight)| Card::new(score(index as u64, 1), *weight))
            .collect();
        let groups = weights.len().div_ceil(size);
        let mut lists = vec![Weighed::new(); 8 * groups];
        for round in 0..8 {
            for (index, group) in deal(&cards, groups, round).into_iter().enumerate() {
                lists[round * groups + usize::from(group)].push((index as u32, weights[index]));
            }
        }
        lists
    }

    proptest! {
        #[test]
        fn every_backend_gets_what_its_weight_says(
            weights in proptest::collection::vec(0.3..3.0, 60..200),
            size in 15usize..40,
            seed: u64,
        ) {
            let lists = dealt(&weights, size);
            // Groups have up to a quarter more or less than the mean of clients.
            let clients = (0..lists.len() as u64).map(|g| 75.0 + (score(seed, g) % 51) as f64);
            let clients: Vec<f64> = clients.collect();
            let all: f64 = clients.iter().sum();
            let clients: Vec<f64> = clients.iter().map(|count| count / all).collect();
            let sum: f64 = weights.iter().sum();
            let targets: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
            let level = level(&lists, &clients, &targets, &vec![1.0; weights.len()], true);
            prop_assert!((level.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            for (share, target) in level.shares.iter().zip(&targets) {
                prop_assert!((share / target - 1.0).abs() <= 0.021, "{share} for {target}");
            }
            // What is right stays.
            let again = super::level(&lists, &clients, &targets, &level.factors, false);
            prop_assert_eq!(again.factors, level.factors);
        }

        #[test]
        fn factors_are_sound_whatever_comes(
            weights in proptest::collection::vec(1e-6..1e6, 2..60),
            clients in proptest::collection::vec(0.0..1.0, 0..100),
            size in 2usize..20,
        ) {
            let lists = dealt(&weights, size);
            let sum: f64 = weights.iter().sum();
            let targets: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
            let mut masses = clients;
            masses.resize(lists.len(), 0.0);
            let level = level(&lists, &masses, &targets, &vec![1.0; weights.len()], true);
            for factor in level.factors {
                prop_assert!((1.0 / MOST..=MOST).contains(&factor));
            }
        }
    }
}
