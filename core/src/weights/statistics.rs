//! A few sums.
//!
//! Exponentials and logarithms are libm's own, written in Rust: those of the
//! platform differ in the last digit between machines, and a simulation with
//! one seed should print the same everywhere.

/// e to the power of `x`.
pub(crate) fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// The natural logarithm.
pub(crate) fn ln(x: f64) -> f64 {
    libm::log(x)
}

/// How far a mean that forgets over `tau` seconds moves to a value that held
/// for `seconds`: from 0, not at all, to 1, all the way.
pub(crate) fn pull(seconds: f64, tau: f64) -> f64 {
    if tau > 0.0 {
        1.0 - exp(-seconds / tau)
    } else {
        1.0
    }
}

/// The middle value; of an even number, half-way between the two in the middle.
/// `None` of nothing. Values are finite.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = values[middle - 1];
    Some(lower + (upper - lower) / 2.0)
}

/// The mean; `None` of nothing.
pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_stand_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_mean_without_memory_follows_at_once() {
        assert_eq!(pull(1.0, 0.0), 1.0);
        assert_eq!(pull(0.0, 10.0), 0.0);
        assert!((pull(10.0, 10.0) - 0.632).abs() < 0.001);
    }
}
