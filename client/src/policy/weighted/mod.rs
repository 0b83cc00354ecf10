//! `weighted`: a connection to every address, and RPCs to those that are ready in
//! proportion to their weights, evenly mixed.
//!
//! | weight | what it means |
//! |---|---|
//! | above 0 | share of the calls, relative to the other endpoints |
//! | 0 | no calls while an endpoint with another weight is ready |
//! | negative, infinite, NaN | not known: the mean of those that are (gRFC A58 does so too) |
//!
//! An address listed several times has the sum of its entries' weights.

mod schedule;
#[cfg(test)]
mod tests;

use self::schedule::Schedule;
use super::{BuildPicker, Pick, PickArgs, Picker, Position, Ready, Spread};

/// Spreads RPCs by [`Endpoint::weight`](crate::endpoint::Endpoint::weight).
///
/// Weights in a simple proportion (whole numbers, whose sum is at most 4096 once
/// they are divided by what they have in common) are met exactly in every round,
/// and at any time within a round to less than one call. Other weights are met
/// to a few calls, however many there are.
pub type Weighted = Spread<WeightedPickers>;

impl Weighted {
    /// Starts where `rng` says in the order of calls, for each picker anew:
    /// clients that all began at the same place would all call the same backend
    /// first.
    #[must_use]
    pub fn new(rng: fastrand::Rng) -> Self {
        Self::with(WeightedPickers { rng })
    }
}

/// Builds the pickers of [`Weighted`].
#[derive(Debug)]
pub struct WeightedPickers {
    rng: fastrand::Rng,
}

impl BuildPicker for WeightedPickers {
    type Picker = WeightedPicker;

    fn build(&mut self, ready: Vec<Ready>) -> WeightedPicker {
        let weights: Vec<_> = ready.iter().map(|ready| ready.endpoint.weight).collect();
        let schedule = Schedule::new(&weights);
        WeightedPicker {
            position: Position::new(schedule.position(self.rng.u64(..))),
            ready: ready.into(),
            schedule,
        }
    }
}

/// Picks by weights.
#[derive(Debug)]
pub struct WeightedPicker {
    ready: Box<[Ready]>,
    schedule: Schedule,
    position: Position,
}

impl Picker for WeightedPicker {
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        let position = self.position.advance(self.schedule.step());
        Pick::Complete(self.ready[self.schedule.turn(position)].picked())
    }
}
