//! No backend draws nearly all calls to itself.
//!
//! Weights are in their policy's bounds, relative to the mean of all. But of three
//! backends, or when the large ones have just gone, the largest one is most of
//! that mean, and the bounds are none.

use super::{Candidate, Weigher};
use crate::weights::moment::Moment;
use crate::weights::settings::WeightSettings;

impl Weigher {
    /// Holds each listed backend to so many times the mean of the others as the
    /// policy allows, but for slow start: newcomers keep it from nobody.
    pub(super) fn limit(
        &self,
        candidates: &[Candidate],
        factors: &mut [f64],
        settings: &WeightSettings,
        now: Moment,
    ) {
        let slow = |candidate: &Candidate| {
            let record = self.records.get(&candidate.addr);
            record.map_or(1.0, |record| record.slow(settings, now))
        };
        let listed = candidates.iter().zip(factors.iter());
        let listed = listed.filter(|(candidate, _)| candidate.listed);
        let each = listed.map(|(candidate, factor)| factor / slow(candidate));
        let Some(level) = level(each.collect(), self.policy.most()) else {
            return;
        };
        for (candidate, factor) in candidates.iter().zip(factors) {
            if candidate.listed {
                *factor = factor.min(level * slow(candidate));
            }
        }
    }
}

/// The level to which weights are cut so that none is more than `most` times the
/// mean of the others; `None` if none is.
fn level(mut weights: Vec<f64>, most: f64) -> Option<f64> {
    weights.sort_by(|a, b| b.total_cmp(a));
    let others = weights.len().checked_sub(1).filter(|others| *others > 0)? as f64;
    // The sums of what comes after each.
    let mut rest = vec![0.0; weights.len()];
    for index in (1..weights.len()).rev() {
        rest[index - 1] = rest[index] + weights[index];
    }
    for (index, weight) in weights.iter().enumerate() {
        // With this one and all above it at the level.
        let above = others - most * index as f64;
        let level = if above > 0.0 {
            most * rest[index] / above
        } else {
            f64::INFINITY
        };
        let next = weights.get(index + 1).copied().unwrap_or(0.0);
        if level >= next {
            return (index > 0 || level < *weight).then_some(level.min(*weight));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_in_bounds_is_left_alone() {
        assert_eq!(level(vec![], 4.0), None);
        assert_eq!(level(vec![3.0], 4.0), None);
        assert_eq!(level(vec![4.0, 1.0, 1.0], 4.0), None);
        assert_eq!(level(vec![5.0, 1.0, 1.0], 4.0), Some(4.0));
    }

    proptest! {
        #[test]
        fn nobody_is_left_above_the_others(
            weights in proptest::collection::vec(1e-3..100.0, 2..40),
            most in 1.1..10.0,
        ) {
            let level = level(weights.clone(), most).unwrap_or(f64::MAX);
            let cut: Vec<f64> = weights.iter().map(|weight| weight.min(level)).collect();
            let sum: f64 = cut.iter().sum();
            let others = (cut.len() - 1) as f64;
            for weight in &cut {
                prop_assert!(*weight <= most * (sum - weight) / others * (1.0 + 1e-9));
            }
            // No more is cut than that takes.
            if let Some(top) = cut.iter().copied().reduce(f64::max).filter(|_| level < f64::MAX) {
                let tight = most * (sum - top) / others;
                prop_assert!((top / tight - 1.0).abs() < 1e-6 || cut.contains(&top));
            }
        }
    }
}
