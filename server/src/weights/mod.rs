//! Weight policies: what each backend's operator weight is multiplied with.
//!
//! A policy is one file behind [`WeightPolicy`]. Policies are pure: they are
//! given what is known and the time, and return factors.

mod fixed;

pub use fixed::Static;

use std::time::Duration;

use crate::model::{BackendAddr, Weight};

/// A backend that a policy weighs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Where it is.
    pub addr: BackendAddr,
    /// The operator's weight, above 0.
    pub operator: Weight,
}

/// What a policy makes of the candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighed {
    /// For each candidate, in order, the factor on its operator weight: above
    /// 0 and finite.
    pub factors: Vec<f64>,
    /// Whether the policy itself moved a weight, so that what the operator
    /// wrote no longer stands alone.
    pub moved: bool,
}

/// Computes weights of the backends of one service.
pub trait WeightPolicy: std::fmt::Debug + Send {
    /// Its name in the configuration and in metrics.
    fn name(&self) -> &'static str;

    /// Weighs the candidates. `now` is the time since the service began.
    fn weigh(&mut self, candidates: &[Candidate], now: Duration) -> Weighed;
}
