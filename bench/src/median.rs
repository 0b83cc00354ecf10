//! The middle of a few measurements, and how sure it is.

/// The value in the middle; the mean of two, of an even number of them.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

/// Between which two of the values the true median lies, by the sign test: in at
/// least 95 of 100 such experiments, whatever the distribution. Fewer than six
/// values cannot say so much; theirs is from the least to the greatest.
pub(crate) fn interval(values: &[f64]) -> (f64, f64) {
    let sorted = sorted(values);
    let outside = outside(sorted.len());
    let low = sorted.get(outside);
    let high = sorted.len().checked_sub(outside + 1);
    match (low, high.and_then(|high| sorted.get(high))) {
        (Some(low), Some(high)) => (*low, *high),
        _ => (f64::NAN, f64::NAN),
    }
}

/// How many of the least, and as many of the greatest, of `count` values lie
/// outside of the interval.
fn outside(count: usize) -> usize {
    // A fair coin thrown `count` times: the chance of at most `heads`.
    let mut exactly = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut at_most = exactly;
    let mut heads = 0;
    while 2.0 * at_most <= 0.05 && heads < count {
        heads += 1;
        exactly *= (count - heads + 1) as f64 / heads as f64;
        at_most += exactly;
    }
    heads.saturating_sub(1)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn intervals_are_those_of_the_sign_test() {
        let values: Vec<f64> = (1..=11).map(f64::from).collect();
        assert_eq!(interval(&values), (2.0, 10.0));
        assert_eq!(interval(&values[..6]), (1.0, 6.0));
        assert_eq!(interval(&values[..3]), (1.0, 3.0));
        let values: Vec<f64> = (1..=25).map(f64::from).collect();
        assert_eq!(interval(&values), (8.0, 18.0));
        assert!(interval(&[]).0.is_nan());
    }
}
