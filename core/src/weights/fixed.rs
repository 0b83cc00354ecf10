//! `static`: weights are the operator's.

use super::policy::{Backends, WeightPolicy};

/// The default policy: a weight moves only when the operator moves it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Static;

impl WeightPolicy for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn weigh(&mut self, backends: &Backends<'_>) -> Vec<f64> {
        vec![1.0; backends.each.len()]
    }

    fn is_constant(&self) -> bool {
        true
    }
}
