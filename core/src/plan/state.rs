//! What one plan leaves to the next.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::group::{Clients, Grouping, SavedGrouping};
use super::overload::{Overload, OverloadObservation};
use super::{Member, Merged, Plan, ServiceSettings};
use crate::model::BackendAddr;
use crate::weights::{Ejections, GateCounts, Moment, Observation, Rebase, SavedWeights, Weigher};

/// What is remembered of a service from plan to plan.
///
/// Whoever publishes a plan says so by [`PlanState::published`]: weights are
/// measured against what clients were really sent.
#[derive(Debug, Default)]
pub struct PlanState {
    pub(super) weigher: Weigher,
    pub(super) ejections: Ejections,
    pub(super) overload: Overload,
    pub(super) grouping: Grouping,
    frozen: Option<FrozenMean>,
    /// Backends that were found healthy once, or were there at the first
    /// publish; `None` before that.
    admitted: Option<BTreeSet<BackendAddr>>,
}

/// The mean weight that lists are scaled by, and how many backends it is of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct FrozenMean {
    mean: f64,
    members: usize,
}

/// What a restart must not lose of a service. Plain data; every moment in it is
/// relative to the saving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedPlan {
    weights: SavedWeights,
    frozen: Option<FrozenMean>,
    #[serde(default)]
    overload: Overload,
    #[serde(default)]
    groups: SavedGrouping,
}

impl PlanState {
    /// The clients were sent this plan at `now`, the time since the service
    /// began.
    pub fn published(&mut self, plan: &Plan, now: Duration) {
        let listed = plan.members.iter().filter(|member| member.listed);
        let weights = listed.map(|member| (member.addr, member.effective));
        self.weigher.published(weights, Moment::new(now));
        self.overload.published(plan.overload, Moment::new(now));
        let admitted = self.admitted.get_or_insert_default();
        let healthy = plan.members.iter().filter(|m| m.state.is_healthy());
        admitted.extend(healthy.map(|member| member.addr));
    }

    /// When to plan again though nothing comes in, as the time since the service
    /// began; `None`: not before something does.
    #[must_use]
    pub fn next(&self, settings: &ServiceSettings) -> Option<Duration> {
        let overload = settings.overload.and_then(|_| self.overload.next());
        let weights = self.weigher.next(&settings.weights);
        let next = weights.into_iter().chain(overload).min();
        next.map(Moment::since_start)
    }

    /// Whether clients are so much elsewhere that a new plan would differ.
    #[must_use]
    pub fn clients_moved(&self, clients: &Clients) -> bool {
        self.grouping.has_moved(clients)
    }

    /// What is known of each backend's load and weight, for metrics and status.
    pub fn observations(
        &self,
        settings: &ServiceSettings,
        now: Duration,
    ) -> impl Iterator<Item = Observation> {
        let now = Moment::new(now);
        self.weigher.observations(&settings.weights, now)
    }

    /// What the publish gate did.
    #[must_use]
    pub fn gate(&self) -> GateCounts {
        self.weigher.gate()
    }

    /// What is dropped for overload.
    #[must_use]
    pub fn overload(&self, now: Duration) -> OverloadObservation {
        self.overload.observe(Moment::new(now))
    }

    /// Ejections so far.
    #[must_use]
    pub fn ejections(&self) -> Ejections {
        self.ejections
    }

    /// Whether there is more to its lists than what the operator wrote.
    #[must_use]
    pub fn learns(&self, settings: &ServiceSettings) -> bool {
        self.weigher.learns(&settings.weights) || self.grouping.learns()
    }

    /// Everything that is remembered of weights, at `now`, the time since the
    /// service began.
    #[must_use]
    pub fn save(&self, now: Duration) -> SavedPlan {
        let mut overload = self.overload.clone();
        overload.rebase(Moment::new(now), Moment::ZERO);
        SavedPlan {
            weights: self.weigher.save(Moment::new(now)),
            frozen: self.frozen,
            overload,
            groups: self.grouping.save(),
        }
    }

    /// Goes on from what another process saved `ago`, at `now`, the time since
    /// the service began here.
    #[must_use]
    pub fn load(
        saved: SavedPlan,
        settings: &ServiceSettings,
        now: Duration,
        ago: Duration,
    ) -> Self {
        let weights = &settings.weights;
        let saved_at = Moment::new(now).moved(Moment::new(ago), Moment::ZERO);
        let mut overload = saved.overload;
        overload.rebase(Moment::ZERO, saved_at);
        if !overload.is_sound() {
            overload = Overload::default();
        }
        let sound = |frozen: &FrozenMean| frozen.mean.is_finite() && frozen.mean > 0.0;
        Self {
            weigher: Weigher::load(saved.weights, weights.policy, weights.shadow, saved_at),
            ejections: Ejections::default(),
            overload,
            grouping: Grouping::load(saved.groups),
            frozen: saved.frozen.filter(sound),
            admitted: None,
        }
    }

    /// Who need not show first that it is healthy; `None` if nobody has to.
    pub(super) fn admitted(&self, settings: &ServiceSettings) -> Option<&BTreeSet<BackendAddr>> {
        self.admitted.as_ref().filter(|_| settings.health_checks)
    }

    /// Forgets whoever is no longer known.
    pub(super) fn track(&mut self, merged: &[Merged]) {
        if let Some(admitted) = &mut self.admitted {
            let known = |addr: &BackendAddr| {
                let found = merged.binary_search_by_key(addr, |merged| merged.addr);
                found.is_ok()
            };
            admitted.retain(known);
        }
        let lives = merged.iter().map(|m| (m.addr, m.incarnation.as_deref()));
        self.weigher.track(lives);
    }

    /// The mean weight of the listed members, or the last one while it is off
    /// by no more than a tenth, in value and in members: then one backend's
    /// change leaves the counts of the others alone.
    pub(super) fn frozen_mean(&mut self, members: &[Member]) -> Option<f64> {
        let weights = members.iter().map(Member::weight).filter(|w| *w > 0.0);
        let (count, sum) = weights.fold((0usize, 0.0), |(n, sum), w| (n + 1, sum + w));
        if count == 0 {
            self.frozen = None;
            return None;
        }
        let mean = sum / count as f64;
        let near = |new: f64, old: f64| (new - old).abs() <= 0.1 * old;
        let keep = self
            .frozen
            .filter(|old| near(mean, old.mean) && near(count as f64, old.members as f64));
        let frozen = keep.unwrap_or(FrozenMean {
            mean,
            members: count,
        });
        self.frozen = Some(frozen);
        Some(frozen.mean)
    }
}
