//! What an order of turns promises, over any weights.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::schedule::Schedule;

/// `count` turns from `position` on.
fn turns(schedule: &Schedule, position: u64, count: usize) -> impl Iterator<Item = usize> {
    let mut position = schedule.position(position);
    (0..count).map(move |_| {
        let turn = schedule.turn(position);
        position = position.wrapping_add(schedule.step());
        turn
    })
}

fn order(weights: &[f64], count: usize) -> Vec<usize> {
    turns(&Schedule::new(weights), 0, count).collect()
}

/// By how many calls the entries are ahead or behind at most, at any time of
/// `count` calls from `position` on.
fn worst(weights: &[f64], position: u64, count: usize) -> f64 {
    let schedule = Schedule::new(weights);
    let sum: f64 = weights.iter().sum();
    let mut calls = vec![0.0; weights.len()];
    let mut worst: f64 = 0.0;
    for (n, entry) in turns(&schedule, position, count).enumerate() {
        // Behind just before its turn, ahead just after.
        worst = worst.max(n as f64 * weights[entry] / sum - calls[entry]);
        calls[entry] += 1.0;
        worst = worst.max(calls[entry] - (n + 1) as f64 * weights[entry] / sum);
    }
    let shares = weights.iter().map(|weight| count as f64 * weight / sum);
    let left = calls.iter().zip(shares).map(|(calls, share)| share - calls);
    left.fold(worst, f64::max)
}

/// What a circle's entry may be ahead or behind within so many calls: the
/// logarithm is theory's (golden section, Kuipers and Niederreiter, ch. 2 §3); the
/// factors are a third above what a search for bad cases found.
fn few(calls: usize) -> f64 {
    2.0 + 0.3 * (calls as f64).ln()
}

#[test]
fn equal_weights_take_turns_in_the_order_given() {
    for count in [1, 3, 1000, 5000] {
        let twice: Vec<_> = (0..count).chain(0..count).collect();
        assert_eq!(order(&vec![7.5; count], 2 * count), twice);
    }
}

#[test]
fn simple_proportions_are_evenly_mixed() {
    assert_eq!(order(&[2.0, 1.0], 6), [0, 0, 1, 0, 0, 1]);
    assert_eq!(order(&[1.0, 1.0, 4.0], 6), [2, 2, 0, 2, 1, 2]);
    assert_eq!(order(&[5.0, 1.0, 1.0], 7), [0, 0, 0, 1, 0, 0, 2]);
    // Also where binary fractions cannot be exact.
    assert_eq!(order(&[0.2, 0.1], 6), order(&[2.0, 1.0], 6));
    assert_eq!(order(&[0.3, 0.6, 0.1], 10), order(&[3.0, 6.0, 1.0], 10));
    assert_eq!(order(&[1e300, 2e300], 3), order(&[1.0, 2.0], 3));
}

#[test]
fn weight_zero_gets_nothing_unless_nobody_has_more() {
    let mixed = [0.0, 1.0, 0.0, 2.5e-7, 0.9, 0.0];
    for weights in [&[0.0, 3.0, 0.0][..], &mixed] {
        let schedule = Schedule::new(weights);
        for position in [0, u64::MAX - 100, u64::MAX] {
            let called = turns(&schedule, position, 2000);
            assert!(called.into_iter().all(|entry| weights[entry] > 0.0));
        }
        if let Schedule::Circle(_) = schedule {
            assert_eq!(schedule.turn(0), 1);
            assert_eq!(schedule.turn(u64::MAX), 4);
        }
    }
    assert_eq!(order(&[0.0, 0.0], 4), [0, 1, 0, 1]);
}

#[test]
fn weights_that_make_no_sense_are_the_mean_of_those_that_do() {
    for nonsense in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        let repaired = order(&[1.0, nonsense, 3.0], 12);
        assert_eq!(repaired, order(&[1.0, 2.0, 3.0], 12), "{nonsense}");
        assert_eq!(order(&[nonsense, nonsense], 4), [0, 1, 0, 1]);
        assert_eq!(order(&[0.0, nonsense, 5.0], 4), [1, 2, 1, 2]);
    }
}

#[test]
fn a_thousand_weights_from_one_to_a_million_are_met_to_a_few_calls() {
    let mut rng = fastrand::Rng::with_seed(5);
    for exponential in [true, false] {
        let mut weight = || match exponential {
            true => 10_f64.powf(6.0 * rng.f64()),
            false => 1.0 + rng.f64() * 999_999.0,
        };
        let mut weights: Vec<_> = (0..1000).map(|_| weight()).collect();
        weights[0] = 1.0;
        weights[1] = 1e6;
        let position = rng.u64(..);
        assert!(matches!(Schedule::new(&weights), Schedule::Circle(_)));
        let worst = worst(&weights, position, 1_000_000);
        assert!(worst < few(1_000_000), "{worst}");
    }
}

#[test]
fn distances_between_calls_of_one_backend_have_three_values() {
    let weights = [0.123_456_789, 0.5, 0.031_415_926_5, 1.0];
    let schedule = Schedule::new(&weights);
    for entry in 0..weights.len() {
        let calls = turns(&schedule, 99, 100_000).enumerate();
        let calls: Vec<_> = calls.filter(|(_, e)| *e == entry).map(|(n, _)| n).collect();
        let distances: BTreeSet<_> = calls.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(distances.len() <= 3, "{distances:?}");
        let ideal = weights.iter().sum::<f64>() / weights[entry];
        let longest = *distances.last().unwrap() as f64;
        assert!(longest < 2.7 * ideal, "{distances:?} for {ideal}");
    }
}

proptest! {
    #[test]
    fn a_round_of_whole_weights_is_exact_and_never_off_by_a_call(
        weights in proptest::collection::vec(0u32..100, 1..40),
        rounds in 1usize..4,
    ) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let weights: Vec<_> = weights.into_iter().map(f64::from).collect();
        let round = weights.iter().sum::<f64>() as usize;
        prop_assert!(matches!(Schedule::new(&weights), Schedule::Round(_)));
        prop_assert!(worst(&weights, 0, round * rounds) < 1.0);
        let mut calls = vec![0.0; weights.len()];
        for entry in turns(&Schedule::new(&weights), 0, round) {
            calls[entry] += 1.0;
        }
        prop_assert_eq!(calls, weights);
    }

    #[test]
    fn any_window_over_any_weights_is_off_by_few_calls(
        weights in proptest::collection::vec(1e-3f64..1e3, 2..60),
        position: u64,
        calls in 1usize..30_000,
    ) {
        let worst = worst(&weights, position, calls);
        prop_assert!(worst < few(calls), "{}", worst);
    }

    #[test]
    fn no_weights_panic(
        weights in proptest::collection::vec(any::<f64>(), 1..50),
        position: u64,
    ) {
        for entry in turns(&Schedule::new(&weights), position, 200) {
            prop_assert!(entry < weights.len());
        }
    }
}
