//! In which order entries stand.
//!
//! Clients take entries strictly in order, so entries of one backend must stand
//! far apart. A client walks two wheels: the whole list, whose drops decide, and
//! the list without its drops, which it calls in turn. So backends are arranged
//! among themselves, and drops are spread between them.

mod phases;
mod smooth;

use self::phases::by_position;
use self::smooth::{Ties, smooth_round_robin};
use super::counts::gcd;

/// Steps of smooth weighted round robin that a list may cost. Every list of an
/// exact ratio is within it, and so is one of 100 backends with 4 entries each.
const MAX_STEPS: u64 = 1 << 16;

/// The hash that stands for all backends where drops are spread between them.
const BACKENDS: u64 = 1 << 63;

/// Items (indexes into `counts`) in the order of the round; item i stands
/// `counts[i]` times. `ids` are hashes of the items. The first `backends` items are
/// backends, the others drops.
pub(super) fn arrange(counts: &[u32], ids: &[u64], backends: usize) -> Vec<u32> {
    let (counts, drops) = counts.split_at(backends);
    let (ids, drop_ids) = ids.split_at(backends);
    let calls = smoothest(counts, ids);
    if drops.iter().all(|count| *count == 0) {
        return calls;
    }
    let counts = [&[calls.len() as u32], drops].concat();
    let ids = [&[BACKENDS], drop_ids].concat();
    let mut calls = calls.into_iter();
    let turns = smoothest(&counts, &ids).into_iter();
    turns
        .filter_map(|turn| match turn.checked_sub(1) {
            None => calls.next(),
            Some(drop) => Some(backends as u32 + drop),
        })
        .collect()
}

/// The order by position, or one of smooth weighted round robin where the former
/// has a wider gap: the latter is better for a few backends of simple ratios.
fn smoothest(counts: &[u32], ids: &[u64]) -> Vec<u32> {
    let by_position = by_position(counts, ids);
    // The order repeats as often as all counts can be divided.
    let divisor = counts
        .iter()
        .fold(0, |sum, count| gcd(sum, (*count).into()));
    let repeats = divisor.max(1) as u32;
    let items = counts.iter().filter(|count| **count > 0).count() as u64;
    let round = by_position.len() as u64 / u64::from(repeats);
    // Of items that all stand equally often, no gap is wider than another.
    if round == items || items * round > MAX_STEPS {
        return by_position;
    }
    let counts_of_round: Vec<u32> = counts.iter().map(|count| count / repeats).collect();
    let smooth = |ties| smooth_round_robin(&counts_of_round, ties).repeat(repeats as usize);
    let orders = [Ties::First, Ties::Heaviest].into_iter().map(smooth);
    let orders = std::iter::once(by_position).chain(orders);
    // Of equals, the first.
    let best = orders.min_by_key(|order| widest_gap(order, counts));
    best.unwrap_or_default()
}

/// The longest way from one entry of an item to its next, around the end of the
/// round too; in units of the even gap, times the length of the round.
fn widest_gap(order: &[u32], counts: &[u32]) -> u64 {
    let mut last: Vec<Option<usize>> = vec![None; counts.len()];
    let mut widest = 0;
    // The second time around closes the gaps over the end.
    for (at, &item) in (0..).zip(order.iter().chain(order)) {
        let item = item as usize;
        if let Some(last) = last[item].replace(at) {
            widest = widest.max((at - last) as u64 * u64::from(counts[item]));
        }
    }
    widest
}
