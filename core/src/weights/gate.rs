//! Whether weights have moved enough to tell the clients.
//!
//! All are told together or none is: bands for each backend would be crossed at
//! different times, and there would be no quiet moment.

use super::statistics::{ln, mean};

/// One backend is this far off, against the others.
const ONE: f64 = 0.12;

/// Or they are so far off on the whole, as a root mean square.
const ALL: f64 = 0.04;

/// Or the mean has moved by so much, so that newcomers would get too little or
/// too much.
const MEAN: f64 = 0.10;

/// Whether to publish, given pairs of the weight that clients have and the one
/// they should have.
pub(super) fn opens(weights: impl IntoIterator<Item = (f64, f64)>) -> bool {
    let off = weights
        .into_iter()
        .map(|(has, should)| ln(should) - ln(has));
    let off: Vec<f64> = off.collect();
    let Some(mean) = mean(&off) else {
        return false;
    };
    let off = off.iter().map(|off| off - mean);
    let (most, squares, count) = off.fold((0f64, 0.0, 0.0), |(most, squares, count), off| {
        (most.max(off.abs()), squares + off * off, count + 1.0)
    });
    // Written so that what is no number opens it: it is rather told than kept.
    !(most <= ONE && squares <= ALL * ALL * count && mean.abs() <= MEAN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_far_off_or_all_a_little_opens() {
        let even = |off: f64, n: usize| vec![(1.0, off); n];
        assert!(!opens([]));
        assert!(!opens(even(1.09, 9)));
        assert!(opens(even(1.11, 9)));
        let mut one = even(1.0, 99);
        one.push((1.0, 1.12));
        assert!(!opens(one.clone()));
        one.push((1.0, 1.14));
        assert!(opens(one));
        assert!(opens([(1.0, 1.05), (1.0, 0.95)]));
        assert!(!opens([(1.0, 1.035), (1.0, 0.965)]));
    }

    proptest! {
        #[test]
        fn noise_inside_the_band_keeps_it_shut(
            weights in proptest::collection::vec((0.03..4.0, -0.039..0.039), 1..50),
        ) {
            let moved = weights.iter().map(|(w, off): &(f64, f64)| (*w, w * off.exp()));
            prop_assert!(!opens(moved));
        }

        #[test]
        fn the_order_does_not_matter(
            weights in proptest::collection::vec((0.03..4.0, 0.03..4.0), 1..30),
        ) {
            let turned: Vec<(f64, f64)> = weights.iter().rev().copied().collect();
            prop_assert_eq!(opens(weights), opens(turned));
        }
    }
}
