//! What holds for any input.

use proptest::prelude::*;

use super::*;
use crate::weights::{FEEDBACK_BOUNDS, SavedWeights};

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        0.0..2.0,
        0.0..1e4,
        Just(0.0),
        Just(f64::NAN),
        Just(1e-300),
        Just(100.0)
    ]
}

fn any_policy() -> impl Strategy<Value = PolicyChoice> {
    prop_oneof![
        Just(PolicyChoice::FEEDBACK),
        Just(PolicyChoice::WEIGHTED_ROUND_ROBIN)
    ]
}

/// Backend, load, calls, failures, and the time in seconds: it may jump.
type Input = (usize, f64, f64, f64, f64);

fn inputs(backends: usize) -> impl Strategy<Value = Vec<Input>> {
    let time = prop_oneof![0.0..100.0, 0.0..10_000.0];
    let input = (0..backends, any_number(), any_number(), any_number(), time);
    proptest::collection::vec(input, 1..200)
}

proptest! {
    #[test]
    fn no_input_whatsoever_makes_a_weight_that_is_none(
        inputs in inputs(6),
        policy in any_policy(),
        slow_start in 0u64..60,
    ) {
        let settings = WeightSettings {
            slow_start: Some(Duration::from_secs(slow_start)),
            ejection: Some(true),
            ..settings(policy)
        };
        let mut weigher = Weigher::default();
        weigher.track((0..6).map(|index| (addr(index), None)));
        for (step, (index, load, qps, eps, seconds)) in inputs.into_iter().enumerate() {
            let now = Moment::new(Duration::from_secs_f64(seconds));
            if let Ok(report) = report(load, qps, eps) {
                weigher.report(addr(index), &report, now, &settings);
            }
            weigher.eject(|_| true, &settings, now);
            let listed = |index: &usize| !weigher.is_ejected(addr(*index));
            let candidates: Vec<Candidate> = (0..6).filter(listed).map(candidate).collect();
            prop_assert!(candidates.len() >= 5, "one in ten may be out, at least one");
            let factors = weigher.weigh(&candidates, &settings, now);
            let most = if policy == PolicyChoice::FEEDBACK { FEEDBACK_BOUNDS.1 } else { 10.0 };
            for factor in &factors {
                prop_assert!(factor.is_finite() && *factor > 0.0 && *factor <= most, "{factor}");
                prop_assert!(*factor >= 0.001, "{factor}");
            }
            if step % 3 == 0 {
                let weights = candidates.iter().map(|c| c.addr).zip(factors);
                weigher.published(weights.collect::<Vec<_>>(), now);
            }
        }
    }

    #[test]
    fn one_backend_cannot_draw_everything_to_itself(
        lies in proptest::collection::vec((any_number(), any_number(), any_number()), 60),
    ) {
        let mut run = Loop::new(feedback(), &[400.0; 10], &[1.0; 10]);
        run.ticks(20);
        for (load, qps, eps) in lies {
            if let Ok(report) = report(load, qps, eps) {
                let at = run.now().plus(Duration::from_millis(60));
                run.weigher.report(addr(0), &report, at, &run.settings);
            }
            run.tick_if(|index| index > 0);
            let weights = run.weights();
            let share = weights[0] / weights.iter().sum::<f64>();
            // At most it claims six times a capacity and half of it as skew: then
            // it weighs 4, and the nine others 4.28 between them.
            prop_assert!(share <= 0.49, "{share}");
        }
    }

    #[test]
    fn who_is_where_does_not_matter(
        machines in proptest::collection::vec((200.0..800.0, 0.7..1.4), 3..12),
        turn in 1usize..11,
        policy in any_policy(),
    ) {
        let turn = turn % machines.len();
        let run = |machines: &[(f64, f64)]| {
            let capacity: Vec<f64> = machines.iter().map(|m| m.0).collect();
            let skew: Vec<f64> = machines.iter().map(|m| m.1).collect();
            let mut run = Loop::new(settings(policy), &capacity, &skew);
            run.ticks(8);
            run.factors
        };
        let mut straight = run(&machines);
        let mut turned = machines;
        turned.rotate_left(turn);
        straight.rotate_left(turn);
        for (a, b) in straight.iter().zip(run(&turned)) {
            prop_assert!((a - b).abs() <= 1e-6 * a, "{a} {b}");
        }
    }

    #[test]
    fn the_scale_of_traffic_does_not_matter(
        machines in proptest::collection::vec((2000.0..8000.0, 0.7..1.4), 3..12),
        scale in 1.0..100.0,
        policy in any_policy(),
    ) {
        let run = |scale: f64| {
            let capacity: Vec<f64> = machines.iter().map(|m| m.0 * scale).collect();
            let skew: Vec<f64> = machines.iter().map(|m| m.1).collect();
            let mut run = Loop::new(settings(policy), &capacity, &skew);
            run.ticks(8);
            run.factors
        };
        for (a, b) in run(1.0).iter().zip(run(scale)) {
            prop_assert!((a - b).abs() <= 1e-6 * a, "{a} {b}");
        }
    }

    #[test]
    fn a_restart_goes_on_exactly_where_it_was(
        machines in proptest::collection::vec((200.0..800.0, 0.7..1.4), 3..8),
        before in 1usize..30,
        origin in 0.0..1e6,
        failing in 0usize..8,
    ) {
        let capacity: Vec<f64> = machines.iter().map(|m| m.0).collect();
        let skew: Vec<f64> = machines.iter().map(|m| m.1).collect();
        let mut run = Loop::new(feedback(), &capacity, &skew);
        if let Some(share) = run.failing.get_mut(failing) {
            *share = 1.0;
        }
        run.ticks(before);
        let saved = run.weigher.save(run.now());
        let text = serde_json::to_string(&saved).unwrap();
        let loaded: SavedWeights = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&loaded, &saved);

        // Whole microseconds, so that only the beginning differs.
        let origin = f64::round(origin);
        let mut other = Loop::new(feedback(), &capacity, &skew);
        other.origin = origin;
        other.seconds = run.seconds;
        other.failing.clone_from(&run.failing);
        other.factors.clone_from(&run.factors);
        other.candidates.clone_from(&run.candidates);
        other.weigher = Weigher::load(loaded, PolicyChoice::FEEDBACK, None, other.now());
        for _ in 0..20 {
            run.ticks(1);
            other.ticks(1);
            prop_assert_eq!(&run.factors, &other.factors);
        }
    }
}
