//! When a service has more calls than it can take.

/// Calls are dropped while a service's utilisation stays above a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverloadDrops {
    utilization: f64,
    max: f64,
}

/// Why numbers are no [`OverloadDrops`].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BadOverloadDrops {
    /// The bound.
    #[error(
        "utilization {0} is out of range; write a number above 0 and at most 1 (0.9 is 90 % of what the backends can do)"
    )]
    Utilization(f64),
    /// The most that may be dropped.
    #[error(
        "max {0} is out of range; write a number above 0 and below 1 (0.5 is half of all calls); some have to go through, for the load to be measured"
    )]
    Max(f64),
}

impl OverloadDrops {
    /// The category of these drops, in lists and in metrics.
    pub const CATEGORY: &str = "overload";

    /// The most that is dropped, unless the operator says otherwise.
    pub const MAX: f64 = 0.5;

    /// Drops while utilisation stays above `utilization`, and no more than the
    /// share `max` of all calls.
    ///
    /// # Errors
    /// If `utilization` is not above 0 and at most 1, or `max` not above 0 and
    /// below 1.
    pub fn new(utilization: f64, max: f64) -> Result<Self, BadOverloadDrops> {
        if !(utilization > 0.0 && utilization <= 1.0) {
            return Err(BadOverloadDrops::Utilization(utilization));
        }
        if !(max > 0.0 && max < 1.0) {
            return Err(BadOverloadDrops::Max(max));
        }
        Ok(Self { utilization, max })
    }

    /// The utilisation that is aimed at, above 0 and at most 1.
    #[must_use]
    pub fn utilization(self) -> f64 {
        self.utilization
    }

    /// The most that is dropped, above 0 and below 1.
    #[must_use]
    pub fn max(self) -> f64 {
        self.max
    }
}
