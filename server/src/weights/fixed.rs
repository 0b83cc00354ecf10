//! `static`: weights are the operator's.

use std::time::Duration;

use super::{Candidate, Weighed, WeightPolicy};

/// The default policy: a weight moves only when the operator moves it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Static;

impl WeightPolicy for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn weigh(&mut self, candidates: &[Candidate], _now: Duration) -> Weighed {
        Weighed {
            factors: vec![1.0; candidates.len()],
            moved: false,
        }
    }
}
