//! What lists promise.

mod order;
mod wire;

use std::collections::HashMap;

use bytes::Buf;
use proptest::collection::vec;
use proptest::prelude::*;

use self::wire::decode;
use super::*;
use crate::model::{DropCategory, Nonce};

/// Addresses differ; every seventh is IPv6 if `mixed`.
fn addr(index: usize, mixed: bool) -> BackendAddr {
    let index = index as u32;
    let text = if mixed && index % 7 == 3 {
        format!("[2001:db8::{index:x}]:50051")
    } else {
        format!("{}:50051", std::net::Ipv4Addr::from(0x0a00_0001 + index))
    };
    text.parse().unwrap()
}

fn spec(weights: &[f64], drops: &[f64]) -> ListSpec {
    let listed = |(index, weight): (usize, &f64)| ListedBackend {
        addr: addr(index, false),
        weight: *weight,
    };
    let drop = |(index, share): (usize, &f64)| DropShare {
        category: DropCategory::new(&format!("category {index}")).unwrap(),
        share: *share,
    };
    ListSpec {
        backends: weights.iter().enumerate().map(listed).collect(),
        operator_weights: true,
        mean: None,
        drops: drops.iter().enumerate().map(drop).collect(),
    }
}

/// Weights as a policy makes them.
fn policy_spec(weights: &[f64]) -> ListSpec {
    ListSpec {
        operator_weights: false,
        ..spec(weights, &[])
    }
}

/// Log-normal weights, σ = 0.5, held within 0.1 to 10.
fn log_normal(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut normal = move || {
        let (u, v) = (1.0 - rng.f64(), rng.f64());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let weights = std::iter::repeat_with(|| (0.5 * normal()).exp().clamp(0.1, 10.0));
    weights.take(n).collect()
}

fn variants(lists: &ServerLists) -> impl Iterator<Item = &VariantList> {
    (0..lists.variant_count() as u64).map(|ordinal| lists.variant(ordinal))
}

/// How often each backend and each drop stands in a list.
fn counts(lists: &ServerLists, list: &VariantList) -> (Vec<usize>, Vec<usize>) {
    let mut backends = vec![0; lists.spec().backends.len()];
    let mut drops = vec![0; lists.spec().drops.len()];
    for entry in list.entries() {
        match *entry {
            Entry::Backend(index) => backends[index as usize] += 1,
            Entry::Drop(index) => drops[index as usize] += 1,
        }
    }
    (backends, drops)
}

/// Each backend's share of the calls that are not dropped, when clients are
/// spread evenly over the variants.
fn shares(lists: &ServerLists) -> Vec<f64> {
    let mut shares = vec![0.0; lists.spec().backends.len()];
    for list in variants(lists) {
        let (backends, _) = counts(lists, list);
        let sum: usize = backends.iter().sum();
        for (share, count) in shares.iter_mut().zip(backends) {
            *share += count as f64 / sum as f64 / lists.variant_count() as f64;
        }
    }
    shares
}

fn wanted(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

#[test]
fn small_ratios_are_listed_as_they_are() {
    let cases: [(&[f64], &[usize]); 6] = [
        (&[3.0, 1.0], &[3, 1]),
        (&[5.0, 3.0, 1.0], &[5, 3, 1]),
        (&[6.0, 2.0], &[3, 1]),
        (&[1e6, 1e6], &[1, 1]),
        (&[1.0, 1.0, 0.5], &[2, 2, 1]),
        (&[0.1, 0.3], &[1, 3]),
    ];
    for (weights, expected) in cases {
        let lists = ServerLists::new(spec(weights, &[]));
        assert_eq!(lists.variant_count(), 1, "{weights:?}");
        assert_eq!(counts(&lists, lists.variant(5)).0, expected);
    }
}

#[test]
fn weights_that_hardly_differ_are_each_listed_once() {
    let lists = ServerLists::new(policy_spec(&[1.0, 1.02, 0.995]));
    assert_eq!(lists.variant_count(), 1);
    assert_eq!(counts(&lists, lists.variant(0)).0, [1, 1, 1]);
    // An operator who writes 1.5 means it.
    let lists = ServerLists::new(spec(&[1.5; 300], &[]));
    assert_eq!(lists.variant(0).len(), 300);
}

#[test]
fn dithered_shares_are_within_one_percent() {
    for seed in 0..20 {
        let weights = log_normal(100, seed);
        let lists = ServerLists::new(policy_spec(&weights));
        assert_eq!(lists.variant_count(), VARIANTS);
        let mean_len = variants(&lists).map(VariantList::len).sum::<usize>() as f64 / 16.0;
        assert!((390.0..410.0).contains(&mean_len), "{mean_len}");

        let wanted = wanted(&weights);
        let seen = shares(&lists);
        let errors = seen
            .iter()
            .zip(&wanted)
            .map(|(seen, share)| seen / share - 1.0);
        let rms = (errors.map(|error| error * error).sum::<f64>() / 100.0).sqrt();
        assert!(rms <= 0.01, "seed {seed}: {rms}");
    }
}

#[test]
fn an_operators_canary_is_in_every_list() {
    let mut weights = vec![100.0; 19];
    weights.push(1.0);
    let lists = ServerLists::new(spec(&weights, &[]));
    for list in variants(&lists) {
        assert!(counts(&lists, list).0[19] >= 1);
    }
}

#[test]
fn one_giant_leaves_every_dwarf_a_slot_somewhere() {
    let mut weights = vec![1.0; 1999];
    weights.push(1e6);
    let lists = ServerLists::new(spec(&weights, &[]));
    let seen = shares(&lists);
    assert!(seen.iter().all(|share| *share > 0.0));
    assert!(seen[1999] > 0.9);
}

#[test]
fn more_backends_than_entries_take_turns_over_the_variants() {
    let weights = vec![1.0; 5000];
    let lists = ServerLists::new(spec(&weights, &[]));
    assert_eq!(lists.variant_count(), VARIANTS);
    assert!(variants(&lists).all(|list| (1500..=2000).contains(&list.len())));
    let seen = shares(&lists);
    for share in seen {
        // 16 variants have room for each backend 6 times.
        assert!((share * 5000.0 - 1.0).abs() < 0.05, "{share}");
    }
}

#[test]
fn drops_of_the_usual_kinds_come_out() {
    let cases: [(&[f64], &[f64], Option<usize>); 5] = [
        (&[3.0, 1.0], &[0.25], Some(16)),
        (&[5.0, 3.0, 1.0], &[0.05], Some(142)),
        (&[5.0, 3.0, 1.0], &[0.1, 0.25], None),
        (&[1.0], &[0.5], Some(2)),
        (&[1.0], &[0.99], Some(100)),
    ];
    for (weights, drops, len) in cases {
        let lists = ServerLists::new(spec(weights, drops));
        let list = lists.variant(0);
        assert_eq!(lists.variant_count(), 1, "{weights:?} {drops:?}");
        assert!(len.is_none_or(|len| len == list.len()), "{}", list.len());
        let (_, dropped) = counts(&lists, list);
        for (count, share) in dropped.iter().zip(drops) {
            let seen = *count as f64 / list.len() as f64;
            assert!((seen - share).abs() <= 0.001, "{seen} for {share}");
        }
    }
}

#[test]
fn a_share_too_small_for_one_list_is_spread_over_the_variants() {
    let lists = ServerLists::new(spec(&[3.0, 1.0], &[0.0001]));
    assert_eq!(lists.variant_count(), VARIANTS);
    let dropped: usize = variants(&lists).map(|list| counts(&lists, list).1[0]).sum();
    let entries: usize = variants(&lists).map(VariantList::len).sum();
    assert!((dropped as f64 / entries as f64 - 0.0001).abs() < 0.00005);
    assert!(
        shares(&lists)
            .iter()
            .zip([0.75, 0.25])
            .all(|(a, b)| (a - b).abs() < 1e-9)
    );
}

#[test]
fn nearly_all_calls_dropped_still_lists_backends() {
    let lists = ServerLists::new(spec(&[1.0; 20], &[0.9995]));
    for list in variants(&lists) {
        let (backends, drops) = counts(&lists, list);
        assert!(backends.iter().sum::<usize>() >= 1);
        assert!(drops[0] as f64 / list.len() as f64 > 0.998);
    }
    assert!(shares(&lists).iter().all(|share| *share > 0.0));
}

/// Largest lead or lag of any item behind its even share, in entries, and the
/// largest and smallest gap between two of its entries, over the even gap.
fn smoothness(entries: &[Entry]) -> (f64, f64, f64) {
    let len = entries.len() as f64;
    let mut places: HashMap<u32, Vec<usize>> = HashMap::new();
    for (at, entry) in entries.iter().enumerate() {
        let Entry::Backend(index) = *entry else {
            continue;
        };
        places.entry(index).or_default().push(at);
    }
    let (mut deviation, mut widest, mut closest) = (0f64, 0f64, f64::INFINITY);
    for places in places.values() {
        let even = len / places.len() as f64;
        for (copy, at) in places.iter().enumerate() {
            let due = *at as f64 / even;
            deviation = deviation.max((due - copy as f64).abs());
            deviation = deviation.max((due + 1.0 / even - copy as f64 - 1.0).abs());
            let next = places
                .get(copy + 1)
                .map_or(places[0] as f64 + len, |at| *at as f64);
            widest = widest.max((next - *at as f64) / even);
            closest = closest.min((next - *at as f64) / even);
        }
    }
    (deviation, widest, closest)
}

#[test]
fn turns_of_one_backend_are_evenly_spread() {
    let mut deviations = Vec::new();
    for seed in 0..20 {
        let weights = log_normal(100, seed);
        let mut spec = policy_spec(&weights);
        // Half the mean makes 8 entries of each backend.
        spec.mean = Some(weights.iter().sum::<f64>() / 200.0);
        let lists = ServerLists::new(spec);
        for list in variants(&lists) {
            let (deviation, widest, closest) = smoothness(list.entries());
            assert!(deviation <= 1.3, "seed {seed}: {deviation}");
            assert!(
                widest <= 1.6 && closest >= 0.5,
                "seed {seed}: {widest} {closest}"
            );
            deviations.push(deviation);
        }
    }
    deviations.sort_by(f64::total_cmp);
    assert!(deviations[deviations.len() / 2] <= 1.1);
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![
        (1u32..20).prop_map(f64::from),
        0.1..10.0f64,
        (-9.0..6.0f64).prop_map(|exponent| 10f64.powf(exponent)),
    ]
}

/// Shares of all calls whose sum is at most 1, and sometimes just 1.
fn drop_shares() -> impl Strategy<Value = Vec<f64>> {
    let rest = prop_oneof![4 => 0.001..3.0f64, 1 => Just(0.0), 1 => 1e-6..1e-3f64];
    (vec(0.001..1.0f64, 0..4), rest).prop_map(|(parts, rest)| {
        let sum: f64 = parts.iter().sum::<f64>() + rest;
        parts.iter().map(|part| part / sum).collect()
    })
}

prop_compose! {
    fn any_spec()(
        weights in vec(weight(), 1..60),
        drops in drop_shares(),
        mixed: bool,
        operator_weights: bool,
        mean in proptest::option::of(0.05..20.0f64),
    ) -> ListSpec {
        let mut spec = spec(&weights, &drops);
        for (index, backend) in spec.backends.iter_mut().enumerate() {
            backend.addr = addr(index, mixed);
        }
        ListSpec { operator_weights, mean, ..spec }
    }
}

#[test]
fn variants_of_different_lengths_do_not_bend_the_drops() {
    // Once 0.18465: each variant rounded for itself, and those with more backends
    // were those that rounded up.
    let weights = [0.1, 3.464_179_286_012_165];
    let drops = [0.000_413_174_416_272_401_6, 0.183_559_184_145_413_83];
    let lists = ServerLists::new(ListSpec {
        operator_weights: false,
        ..spec(&weights, &drops)
    });
    let seen = variants(&lists).map(|list| counts(&lists, list).1[1] as f64 / list.len() as f64);
    let mean = seen.sum::<f64>() / lists.variant_count() as f64;
    assert!((mean - drops[1]).abs() <= 0.0005, "{mean}");
}

proptest! {
    #[test]
    fn every_list_is_sound(spec in any_spec()) {
        let lists = ServerLists::new(spec);
        let dropped: f64 = lists.spec().drops.iter().map(|drop| drop.share).sum();
        let mut seen = vec![0; lists.spec().backends.len()];
        for list in variants(&lists) {
            prop_assert!((1..=2000).contains(&list.len()));
            prop_assert!(list.first_frame(0, Nonce::from_bits(1)).remaining() <= 60_000);
            let (backends, drops) = counts(&lists, list);
            if dropped < 1.0 - 1e-9 {
                prop_assert!(backends.iter().sum::<usize>() > 0);
            }
            seen.iter_mut().zip(backends).for_each(|(sum, count)| *sum += count);
            if lists.variant_count() == 1 {
                for (count, drop) in drops.iter().zip(&lists.spec().drops) {
                    let share = *count as f64 / list.len() as f64;
                    prop_assert!((share - drop.share).abs() <= 0.001);
                }
            }
        }
        if dropped < 1.0 - 1e-9 {
            prop_assert!(seen.iter().all(|count| *count > 0));
        }
    }

    #[test]
    fn whole_ratios_are_exact(weights in vec(1u32..12, 1..20), drops in drop_shares()) {
        let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
        let dropped: f64 = drops.iter().sum();
        // At most 240 entries a round leave room for drops.
        prop_assume!(dropped < 0.8);
        let lists = ServerLists::new(spec(&weights, &drops));
        for (seen, share) in shares(&lists).iter().zip(wanted(&weights)) {
            prop_assert!((seen - share).abs() < 1e-9);
        }
    }

    #[test]
    fn a_single_list_is_within_a_point(weights in vec(0.1..10.0f64, 2..200), operator_weights: bool) {
        let spec = ListSpec { operator_weights, ..spec(&weights, &[]) };
        let lists = ServerLists::new(spec);
        let wanted = wanted(&weights);
        for list in variants(&lists) {
            let (backends, _) = counts(&lists, list);
            for (count, share) in backends.iter().zip(&wanted) {
                let seen = *count as f64 / list.len() as f64;
                prop_assert!((seen - share).abs() <= 0.01, "{} for {}", seen, share);
            }
        }
    }

    #[test]
    fn dithered_drops_come_out_over_the_variants(
        weights in vec(0.1..10.0f64, 2..100),
        drops in drop_shares(),
    ) {
        prop_assume!(drops.iter().sum::<f64>() < 0.95);
        let lists = ServerLists::new(ListSpec { operator_weights: false, ..spec(&weights, &drops) });
        for (index, share) in drops.iter().enumerate() {
            let seen = variants(&lists).map(|list| counts(&lists, list).1[index] as f64 / list.len() as f64);
            let mean = seen.sum::<f64>() / lists.variant_count() as f64;
            prop_assert!((mean - share).abs() <= 0.001, "{} for {}", mean, share);
            // Not by variants that make good for each other's gross mistakes.
            for list in variants(&lists) {
                let dropped = counts(&lists, list).1[index] as f64;
                prop_assert!((dropped - list.len() as f64 * share).abs() <= 2.0);
            }
        }
    }

    #[test]
    fn removing_a_backend_removes_its_entries_only(seed: u64, gone in 0usize..200) {
        let weights = log_normal(200, seed);
        let mut spec = policy_spec(&weights);
        spec.mean = Some(1.1);
        let before = ServerLists::new(spec.clone());
        let removed = spec.backends.remove(gone).addr;
        let after = ServerLists::new(spec);
        let addrs = |lists: &ServerLists, list: &VariantList| -> Vec<BackendAddr> {
            let addr = |entry: &Entry| match *entry {
                Entry::Backend(index) => lists.spec().backends[index as usize].addr,
                Entry::Drop(_) => panic!("no drops here"),
            };
            list.entries().iter().map(addr).collect()
        };
        for (old, new) in variants(&before).zip(variants(&after)) {
            let mut rest = addrs(&before, old);
            rest.retain(|addr| *addr != removed);
            prop_assert_eq!(rest, addrs(&after, new));
        }
    }

    #[test]
    fn no_spec_panics(
        weights in vec(any::<f64>(), 0..30),
        drops in vec(any::<f64>(), 0..5),
        mean in proptest::option::of(any::<f64>()),
        operator_weights: bool,
        rotation: u64,
    ) {
        let lists = ServerLists::new(ListSpec { mean, operator_weights, ..spec(&weights, &drops) });
        for list in variants(&lists) {
            prop_assert!(weights.is_empty() || list.len() > 0);
        }
        let list = lists.variant(rotation);
        prop_assert_eq!(decode(list.frame(rotation)).len(), list.len());
        let first = decode(list.first_frame(rotation, Nonce::from_bits(rotation)));
        prop_assert_eq!(first.len(), list.len());
    }
}
