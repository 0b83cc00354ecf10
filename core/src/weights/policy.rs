//! What a weight policy is.

use std::fmt;
use std::time::Duration;

use super::feedback::Feedback;
use super::fixed::Static;
use super::moment::Moment;
use super::published::PublishedWeight;
use super::signals::{Freshness, Signals};
use super::weighted_round_robin::WeightedRoundRobin;
use crate::model::BackendAddr;

/// Computes weights of the backends of one service.
///
/// A policy is asked every five seconds. It is given everything known of every
/// backend, and answers with a factor for each on the weight that the operator
/// gave it. All the rest is done around it: reports are checked and smoothed
/// ([`Signals`]), slow start and the operator's weights are multiplied in, noise
/// is kept from the clients, and what fails is ejected.
///
/// It is pure: no clock, no chance, no I/O; equal inputs give equal weights, so
/// that `lookaside simulate` shows what will be served.
///
/// # Examples
/// Calls by free capacity, as far as it is known:
/// ```
/// use lookaside_core::weights::{Backends, Freshness, PolicyChoice, WeightPolicy};
///
/// #[derive(Debug, Default)]
/// struct Headroom;
///
/// impl WeightPolicy for Headroom {
///     fn name(&self) -> &'static str {
///         "headroom"
///     }
///
///     fn weigh(&mut self, backends: &Backends<'_>) -> Vec<f64> {
///         let factor = |backend: &lookaside_core::weights::Observed<'_>| {
///             match backend.freshness {
///                 Freshness::Known | Freshness::Stale => {
///                     (1.0 - backend.signals.utilization()).clamp(0.1, 1.0)
///                 }
///                 // Unknown is not zero.
///                 Freshness::Unknown | Freshness::Blackout => 0.5,
///             }
///         };
///         backends.each.iter().map(factor).collect()
///     }
/// }
///
/// const HEADROOM: PolicyChoice = PolicyChoice::new("headroom", || Box::<Headroom>::default());
/// assert_eq!(HEADROOM.make().name(), "headroom");
/// ```
/// Put the choice into [`WeightSettings::policy`](super::WeightSettings).
pub trait WeightPolicy: fmt::Debug + Send {
    /// Its name in the configuration and in metrics.
    fn name(&self) -> &'static str;

    /// The factor for each of `backends.each`, in order. What is not finite or
    /// not above 0 counts as 1; the mean should be about 1.
    fn weigh(&mut self, backends: &Backends<'_>) -> Vec<f64>;

    /// Whether its answer never depends on anything but the list of backends;
    /// such a policy is not asked every five seconds.
    fn is_constant(&self) -> bool {
        false
    }

    /// How many times the mean of the others one backend may weigh, at most: above
    /// 1. Whatever the policy says, no list sends more than that to one.
    fn most(&self) -> f64 {
        10.0
    }

    /// Whether the policy believes what the backend reports.
    fn trusts(&self, _backend: BackendAddr, _now: Moment) -> bool {
        true
    }

    /// The backend has gone, or another has taken its address: what the policy
    /// remembers of it is void.
    fn forget(&mut self, _backend: BackendAddr) {}

    /// What it must remember over a restart, with every moment relative to
    /// `now`; `None` if nothing.
    fn save(&self, _now: Moment) -> Option<serde_json::Value> {
        None
    }

    /// Takes up what was saved; `now` is the moment of the saving as this
    /// process counts. What cannot be read is ignored.
    fn load(&mut self, _saved: serde_json::Value, _now: Moment) {}
}

/// What a policy is given.
#[derive(Debug, Clone, Copy)]
pub struct Backends<'a> {
    /// The time.
    pub now: Moment,
    /// Every backend that is not drained, by address.
    pub each: &'a [Observed<'a>],
}

/// A backend, as a policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// Where it is.
    pub addr: BackendAddr,
    /// The operator's weight, above 0.
    pub operator: f64,
    /// Its load.
    pub signals: &'a Signals,
    /// How far the load is to be trusted.
    pub freshness: Freshness,
    /// What clients were really told.
    pub published: &'a PublishedWeight,
    /// Whether it is out of the lists because its calls fail.
    pub ejected: bool,
    /// Whether it is in the lists, or would be but for its health.
    pub warming: bool,
    /// Whether it is new or was out, and has yet to show what it can do.
    pub probation: Option<Probation>,
}

/// Why a backend has yet to show what it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probation {
    /// It joined a service that was running.
    Joined,
    /// It was there before, and was ejected or not healthy for a while.
    Returned,
}

impl Observed<'_> {
    /// For how long it has been in the lists.
    #[must_use]
    pub fn listed_for(&self, now: Moment) -> Duration {
        self.published.listed_for(now).unwrap_or_default()
    }
}

/// A policy by name, and how to make one: what a configuration chooses.
#[derive(Clone, Copy)]
pub struct PolicyChoice {
    name: &'static str,
    make: fn() -> Box<dyn WeightPolicy>,
}

impl PolicyChoice {
    /// The operator's weights, and nothing else.
    pub const STATIC: Self = Self::new("static", || Box::new(Static));

    /// Weights as gRPC's clients compute them with `weighted_round_robin`.
    pub const WEIGHTED_ROUND_ROBIN: Self =
        Self::new("weighted_round_robin", || Box::new(WeightedRoundRobin));

    /// Weights that make utilisation equal.
    pub const FEEDBACK: Self = Self::new("feedback", || Box::<Feedback>::default());

    /// The policies that a configuration can name.
    pub const BUILT_IN: [Self; 3] = [Self::STATIC, Self::WEIGHTED_ROUND_ROBIN, Self::FEEDBACK];

    /// A policy of one's own. The name tells one from another, and is the one
    /// that it has itself.
    #[must_use]
    pub const fn new(name: &'static str, make: fn() -> Box<dyn WeightPolicy>) -> Self {
        Self { name, make }
    }

    /// The built-in policy of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::BUILT_IN
            .into_iter()
            .find(|choice| choice.name == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// A new one.
    #[must_use]
    pub fn make(self) -> Box<dyn WeightPolicy> {
        (self.make)()
    }
}

impl Default for PolicyChoice {
    fn default() -> Self {
        Self::STATIC
    }
}

impl PartialEq for PolicyChoice {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PolicyChoice {}

impl fmt::Debug for PolicyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicyChoice").field(&self.name).finish()
    }
}
