//! An operator's weight.

use std::fmt;

/// A backend's weight: its share of calls relative to the other backends of
/// the service. Above 0 and at most 10⁶, or exactly 0, which means drained.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Weight(f64);

/// Why a number is no [`Weight`].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("weight {0} is out of range; write a number above 0 and at most 1000000, or 0 to drain")]
pub struct BadWeight(pub f64);

impl Weight {
    /// The largest weight.
    pub const MAX: f64 = 1e6;

    /// Weight 1, which a backend has if nobody states one.
    pub const ONE: Self = Self(1.0);

    /// Weight 0: drained.
    pub const DRAINED: Self = Self(0.0);

    /// A weight.
    ///
    /// # Errors
    /// If the number is negative, above [`Self::MAX`] or not a number.
    pub fn new(weight: f64) -> Result<Self, BadWeight> {
        if (0.0..=Self::MAX).contains(&weight) {
            // -0.0 is 0.
            Ok(Self(weight.abs()))
        } else {
            Err(BadWeight(weight))
        }
    }

    /// The number.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }

    /// Whether it means drained.
    #[must_use]
    pub fn is_drained(self) -> bool {
        self.0 == 0.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_from_zero_to_a_million() {
        for bad in [
            -1.0,
            -f64::MIN_POSITIVE,
            f64::NAN,
            f64::INFINITY,
            1_000_000.1,
        ] {
            assert!(Weight::new(bad).is_err(), "{bad}");
        }
        for good in [0.0, -0.0, 1e-9, 1.0, 1e6] {
            assert_eq!(Weight::new(good).unwrap().value(), good);
        }
        assert!(Weight::new(-0.0).unwrap().is_drained());
    }
}
