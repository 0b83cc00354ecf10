//! What lists promise of their order.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::wire::decode;
use super::{drop_shares, smoothness, spec};
use crate::model::Nonce;

/// The calls of a round in order, without its drops.
fn calls(list: &VariantList) -> Vec<Entry> {
    let entries = list.entries().iter().copied();
    entries
        .filter(|entry| matches!(entry, Entry::Backend(_)))
        .collect()
}

/// nginx's smooth weighted round robin.
fn smooth_weighted_round_robin(weights: &[i64]) -> Vec<Entry> {
    let total: i64 = weights.iter().sum();
    let mut current = vec![0; weights.len()];
    let next = |_| {
        for (current, weight) in current.iter_mut().zip(weights) {
            *current += weight;
        }
        let most = current.iter().max().copied().unwrap();
        let best = current.iter().position(|at| *at == most).unwrap();
        current[best] -= total;
        Entry::Backend(best as u32)
    };
    (0..total).map(next).collect()
}

fn widest_gap(entries: &[Entry]) -> f64 {
    smoothness(entries).1
}

#[test]
fn simple_ratios_are_as_smooth_as_smooth_weighted_round_robin() {
    let cases: [(&[f64], f64); 4] = [
        (&[10.0, 5.0, 2.0, 1.0], 1.23),
        (&[5.0, 3.0, 1.0], 1.34),
        (&[5.0, 1.0, 1.0], 1.43),
        (&[3.0, 1.0], 1.5),
    ];
    for (weights, most) in cases {
        for first in 0..20 {
            let mut spec = spec(weights, &[]);
            for (index, backend) in spec.backends.iter_mut().enumerate() {
                backend.addr = super::addr(4 * first + index, false);
            }
            let lists = ServerLists::new(spec);
            let gap = widest_gap(lists.variant(0).entries());
            assert!(gap <= most, "{weights:?}: {gap}");
        }
    }
}

#[test]
fn first_lists_begin_with_every_entry_in_turn() {
    let lists = ServerLists::new(spec(&[1.0], &[0.5]));
    let starts_with_drop = |rotation| {
        let first = lists
            .variant(0)
            .first_frame(rotation, Nonce::from_bits(rotation));
        decode(first)[0].drop
    };
    assert_ne!(starts_with_drop(0), starts_with_drop(1));
    assert_eq!(starts_with_drop(0), starts_with_drop(2));
}

proptest! {
    #[test]
    fn an_exact_list_is_never_less_smooth_than_smooth_weighted_round_robin(
        weights in vec(1u32..20, 1..12),
        drops in drop_shares(),
    ) {
        prop_assume!(drops.iter().sum::<f64>() < 0.8);
        let whole: Vec<i64> = weights.iter().copied().map(i64::from).collect();
        let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
        let lists = ServerLists::new(spec(&weights, &drops));
        let theirs = widest_gap(&smooth_weighted_round_robin(&whole));
        for variant in 0..lists.variant_count() as u64 {
            let ours = widest_gap(&calls(lists.variant(variant)));
            prop_assert!(ours <= theirs + 1e-9, "{} and {}", ours, theirs);
        }
    }

    #[test]
    fn drops_are_spread_between_the_calls(
        weights in vec(1u32..20, 1..12),
        share in 0.05..0.5f64,
    ) {
        let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
        let lists = ServerLists::new(spec(&weights, &[share]));
        let entries = lists.variant(0).entries();
        let dropped = entries.iter().filter(|entry| matches!(entry, Entry::Drop(_)));
        let even = entries.len() as f64 / dropped.count() as f64;
        let places: Vec<usize> = (0..2 * entries.len())
            .filter(|at| matches!(entries[at % entries.len()], Entry::Drop(_)))
            .collect();
        for gap in places.windows(2).map(|pair| (pair[1] - pair[0]) as f64) {
            prop_assert!((gap - even).abs() < 1.0 + 1e-9, "{} for {}", gap, even);
        }
    }
}
