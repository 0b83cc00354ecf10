//! `weighted_round_robin`: what gRPC's clients compute by that name (gRFC A58),
//! computed here.
//!
//! A weight is calls a second per unit of load, of the newest report alone. It
//! needs no memory and cannot swing, and evens out what a call costs on each
//! backend. It does not see that clients favour a backend: `feedback` does.

use super::policy::{Backends, Observed, WeightPolicy};
use super::signals::Freshness;
use super::statistics::mean;

/// Bounds of a weight, relative to the mean, as C-core has them.
const BOUNDS: (f64, f64) = (0.01, 10.0);

/// The policy.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WeightedRoundRobin;

/// Calls a second per unit of load; `None` while it is not known.
fn capacity(backend: &Observed<'_>) -> Option<f64> {
    let usable = matches!(backend.freshness, Freshness::Known | Freshness::Stale);
    let last = backend.signals.last().filter(|_| usable)?;
    let known = last.qps > 0.0 && last.utilization > 0.0;
    known.then(|| last.qps / last.utilization)
}

impl WeightPolicy for WeightedRoundRobin {
    fn name(&self) -> &'static str {
        "weighted_round_robin"
    }

    fn weigh(&mut self, backends: &Backends<'_>) -> Vec<f64> {
        let capacities: Vec<Option<f64>> = backends.each.iter().map(capacity).collect();
        let known: Vec<f64> = capacities.iter().copied().flatten().collect();
        let Some(mean) = mean(&known).filter(|_| known.len() >= 2) else {
            return vec![1.0; capacities.len()];
        };
        let (least, most) = BOUNDS;
        let factor =
            |capacity: Option<f64>| capacity.map_or(1.0, |c| (c / mean).clamp(least, most));
        capacities.into_iter().map(factor).collect()
    }
}
