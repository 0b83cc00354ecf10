//! What `feedback` remembers of a backend.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BOUNDS;
use crate::weights::moment::{Moment, Rebase};
use crate::weights::statistics::pull;

/// Over how many seconds a learned skew is forgotten.
const SKEW_TAU: f64 = 40.0;

/// A skew is at most a factor of two: what is more is no skew.
const SKEW_MOST: f64 = std::f64::consts::LN_2;

/// The first samples of a skew are worth no more than this.
const FIRST_SAMPLES: f64 = 0.5;

/// Over how many seconds the weight that a liar falls back to is smoothed.
const SLOW_TAU: f64 = 300.0;

/// Who is known for so long has a usual capacity; over how many seconds it is
/// smoothed while the backend is believed, and while it is not.
const ESTABLISHED: Duration = Duration::from_secs(300);
const USUAL_TAU: (f64, f64) = (300.0, 3600.0);

/// For how long who was caught is not believed; doubled each time.
const DISTRUST: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(3600));

/// What is known of a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Learned {
    pub(super) weight: f64,
    /// Whether the weight was ever measured.
    pub(super) weighed: bool,
    /// Whether it is what its first reports say.
    pub(super) began: bool,
    /// What it had before it was ejected or left; of who is there, what it has.
    #[serde(default)]
    pub(super) weight_before: Option<f64>,
    /// How much more than its share it gets, as a logarithm.
    pub(super) skew: f64,
    skew_samples: u32,
    skew_at: Option<Moment>,
    /// Reports and calls that the skew was last learned at.
    pub(super) samples: u64,
    pub(super) calls: f64,
    slow: Option<Slow>,
    usual: Option<Usual>,
    distrusted_until: Option<Moment>,
    distrusted_times: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Slow {
    weight: f64,
    at: Moment,
}

/// A backend's capacity against the median's, as a logarithm, on the whole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Usual {
    capacity: f64,
    since: Moment,
    at: Moment,
}

/// Everything that survives a restart.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) scale: f64,
    pub(super) backends: BTreeMap<String, Learned>,
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            weight: 1.0,
            weighed: false,
            began: false,
            weight_before: None,
            skew: 0.0,
            skew_samples: 0,
            skew_at: None,
            samples: 0,
            calls: 0.0,
            slow: None,
            usual: None,
            distrusted_until: None,
            distrusted_times: 0,
        }
    }
}

impl Learned {
    /// Takes a sample of the skew.
    pub(super) fn learn(&mut self, skew: f64, now: Moment) {
        let passed = self.skew_at.map_or(0.0, |at| now.seconds_since(at));
        let first = (1.0 / (f64::from(self.skew_samples) + 1.0)).min(FIRST_SAMPLES);
        let gain = pull(passed, SKEW_TAU).max(first);
        self.skew = (self.skew + gain * (skew - self.skew)).clamp(-SKEW_MOST, SKEW_MOST);
        self.skew_samples = self.skew_samples.saturating_add(1);
        self.skew_at = Some(now);
    }

    /// Notes whether it claims what nobody can: a capacity (against the median's,
    /// as a logarithm) above `incredible`, or one that leapt by more than `leap`
    /// from what it usually is.
    pub(super) fn judge(&mut self, capacity: f64, (incredible, leap): (f64, f64), now: Moment) {
        let distrusted = self.is_distrusted(now);
        let usual = self.usual.get_or_insert(Usual {
            capacity,
            since: now,
            at: now,
        });
        let established = now.since(usual.since) >= ESTABLISHED;
        let leapt = established && capacity - usual.capacity > leap;
        let (believed, caught) = USUAL_TAU;
        let tau = if distrusted || leapt {
            caught
        } else {
            believed
        };
        usual.capacity += pull(now.seconds_since(usual.at), tau) * (capacity - usual.capacity);
        usual.at = now;
        if distrusted || !(capacity > incredible || leapt) {
            return;
        }
        let (first, longest) = DISTRUST;
        let doubled = 2u32.saturating_pow(self.distrusted_times.min(16));
        self.distrusted_until = Some(now.plus(first.saturating_mul(doubled).min(longest)));
        self.distrusted_times = self.distrusted_times.saturating_add(1);
    }

    /// Whether this capacity, of one report, would be so much if it lasted.
    pub(super) fn leaps(&self, capacity: f64, (incredible, leap): (f64, f64), now: Moment) -> bool {
        let established = |usual: &Usual| now.since(usual.since) >= ESTABLISHED;
        let usual = self.usual.filter(established);
        capacity > incredible || usual.is_some_and(|usual| capacity - usual.capacity > leap)
    }

    pub(super) fn is_distrusted(&self, now: Moment) -> bool {
        self.distrusted_until.is_some_and(|until| now < until)
    }

    /// Whether it ever claimed what nobody can.
    pub(super) fn was_caught(&self) -> bool {
        self.distrusted_times > 0
    }

    /// The weight it had on the whole, while it was believed; 1 if it never was.
    pub(super) fn slow_weight(&self) -> f64 {
        self.slow.map_or(1.0, |slow| slow.weight)
    }

    /// Lets a weight that is believed count for the slow one.
    pub(super) fn remember(&mut self, weight: f64, now: Moment) {
        let slow = self.slow.get_or_insert(Slow { weight, at: now });
        slow.weight += pull(now.seconds_since(slow.at), SLOW_TAU) * (weight - slow.weight);
        slow.at = now;
    }

    /// Whether a saved state can be gone on from.
    pub(super) fn is_sound(&self) -> bool {
        let bounds = BOUNDS.0..=BOUNDS.1;
        let slow = self.slow.is_none_or(|slow| bounds.contains(&slow.weight));
        let ejected = self.weight_before;
        let usual = self.usual.is_none_or(|usual| usual.capacity.is_finite());
        bounds.contains(&self.weight)
            && self.skew.abs() <= SKEW_MOST
            && self.calls.is_finite()
            && ejected.is_none_or(|weight| bounds.contains(&weight))
            && slow
            && usual
    }
}

impl Rebase for Learned {
    fn rebase(&mut self, from: Moment, to: Moment) {
        self.skew_at.rebase(from, to);
        self.distrusted_until.rebase(from, to);
        if let Some(slow) = &mut self.slow {
            slow.at.rebase(from, to);
        }
        if let Some(usual) = &mut self.usual {
            usual.since.rebase(from, to);
            usual.at.rebase(from, to);
        }
    }
}
