//! From everything known of a service to what its clients should be sent.
//!
//! [`plan`] is one pure function of inputs, state and time:
//!
//! ```text
//! contributions ─► merge ─► eligible ─► weigh ─► group ─► Plan
//! health ──────────────────────┘         │(weights::)
//! reports ───────────────────────────────┘
//! ```
//!
//! [`Pace`] says when a new plan goes out, and [`PlanState::next`] when to plan
//! again though nothing came in.

mod eligible;
mod group;
mod merge;
mod overload;
mod pace;
mod state;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

pub use eligible::{BackendState, HealthFields, Probe};
pub use group::score;
pub use group::{Clients, GroupPlan, Layout, USUAL_SUBSET};
pub use merge::{Contribution, MemberFields, Merged, SourceId, SourceKind};
pub use overload::OverloadObservation;
pub use pace::{Lane, Pace, Publish};
pub use state::{PlanState, SavedPlan};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eligible::Judgement;

use crate::model::{
    BackendAddr, DropShare, LabelMatch, Labels, OverloadDrops, Weight, Zone, ZoneTable,
};
use crate::weights::{Candidate, Moment, Report, WeightSettings};

/// What an operator says of a service as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceSettings {
    /// Share of calls to drop, by category.
    pub drops: Vec<DropShare>,
    /// When to drop calls because there are too many; `None`: never.
    pub overload: Option<OverloadDrops>,
    /// The port that A/AAAA answers for the service's own name are about, if
    /// the operator names one.
    pub fallback_port: Option<u16>,
    /// Whether backends are probed: then one that joins is listed only after
    /// its first good probe.
    pub health_checks: bool,
    /// What is said of backends by their labels; of two that say the same, the
    /// first counts.
    pub matches: Vec<LabelMatch>,
    /// How backends are weighed.
    pub weights: WeightSettings,
    /// About how many backends a client gets at most, 2 or more; `None`:
    /// [`USUAL_SUBSET`].
    pub subset: Option<usize>,
    /// Where clients stand, if they are to get backends of their own zone first.
    pub zones: Option<Arc<ZoneTable>>,
}

/// A report that a backend made, and when it came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimedReport {
    /// The backend.
    pub backend: BackendAddr,
    /// When it came: time since the service began.
    pub at: Duration,
    /// What it says.
    pub report: Report,
}

/// What a plan is made of.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// What each source says of the service's backends.
    pub contributions: &'a BTreeMap<SourceId, Contribution>,
    /// What the operator says of the service.
    pub settings: &'a ServiceSettings,
    /// What is known of the backends' health; of who is absent, nothing.
    pub health: &'a BTreeMap<BackendAddr, HealthFields>,
    /// Reports that came since the last plan, those of one backend in order.
    /// Those of backends that no source knows are ignored.
    pub reports: &'a [TimedReport],
    /// Where the clients are. Of a service with one list it is not asked.
    pub clients: &'a Clients,
}

/// A backend in a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Where it is.
    pub addr: BackendAddr,
    /// Whether it should get calls, and why not.
    pub state: BackendState,
    /// Whether it is in the lists: if it is healthy, or in need of any.
    pub listed: bool,
    /// The operator's weight.
    pub operator: Weight,
    /// The policy's factor on it.
    pub factor: f64,
    /// Where it stands.
    pub zone: Option<Zone>,
    /// What else it is told by. Clients do not see it.
    pub labels: Labels,
    /// The weight that its share of all calls comes to, over the groups that have
    /// it: [`Self::weight`], but where clients are too few, or too unevenly spread,
    /// for all to get what they weigh. Above 0 if it is listed.
    pub effective: f64,
}

impl Member {
    fn new(merged: &Merged, state: BackendState) -> Self {
        Self {
            addr: merged.addr,
            state,
            listed: false,
            operator: merged.weight,
            factor: 1.0,
            zone: merged.zone.clone(),
            labels: merged.labels.clone(),
            effective: 0.0,
        }
    }

    /// The weight it is listed with; 0 if it is not listed.
    #[must_use]
    pub fn weight(&self) -> f64 {
        if self.listed {
            self.operator.value() * self.factor
        } else {
            0.0
        }
    }

    /// Whether `other` differs at most in what a policy makes of it.
    fn is_like(&self, other: &Self) -> bool {
        self.addr == other.addr
            && self.state == other.state
            && self.listed == other.listed
            && self.operator == other.operator
            && self.zone == other.zone
    }
}

/// What the clients of a service should be sent, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Every known backend, listed or not, by address.
    pub members: Vec<Member>,
    /// Share of calls to drop, by category.
    pub drops: Vec<DropShare>,
    /// Share of the other calls to drop because there are too many, 0 to less
    /// than 1.
    pub overload: f64,
    /// Which groups of clients there are.
    pub layout: Layout,
    /// What each group of clients gets, by the layout's lists; at least one.
    pub groups: Vec<GroupPlan>,
    /// The share of each audience's calls that leaves its zone.
    pub spilled: Vec<f64>,
}

/// Makes a plan. `now` is the time since the service began.
pub fn plan(input: PlanInput<'_>, state: &mut PlanState, now: Duration) -> Plan {
    let settings = input.settings;
    let merged = merge::merge(input.contributions, &settings.matches);
    state.track(&merged);
    for timed in input.reports {
        let at = Moment::new(timed.at);
        let weigher = &mut state.weigher;
        weigher.report(timed.backend, &timed.report, at, &settings.weights);
    }

    let mut members = judge(input, &merged, state, Moment::new(now));
    let candidates = members.iter().filter(|m| m.state != BackendState::Draining);
    let candidates: Vec<Candidate> = candidates
        .map(|member| Candidate {
            addr: member.addr,
            operator: member.operator,
            listed: member.listed,
            serving: member.state.is_healthy(),
        })
        .collect();
    let weights = &settings.weights;
    let factors = state.weigher.weigh(&candidates, weights, Moment::new(now));
    let moved = members
        .iter_mut()
        .filter(|m| m.state != BackendState::Draining);
    for (member, factor) in moved.zip(&factors) {
        member.factor = *factor;
    }

    let touched = members.iter().any(|m| m.listed && m.factor != 1.0);
    let mean = state.frozen_mean(&members);
    let at = Moment::new(now);
    let load = || state.weigher.service_load(&settings.weights, at);
    let overload = state.overload.step(load, settings.overload, at);
    let drops = overload::with_overload(&settings.drops, overload);
    let wanted = group::Wanted {
        settings,
        drops: &drops,
        operator_weights: !touched,
        mean,
        clients: input.clients,
        now,
    };
    let grouped = state.grouping.group(&mut members, wanted);
    Plan {
        members,
        drops: settings.drops.clone(),
        overload,
        layout: grouped.layout,
        groups: grouped.groups,
        spilled: grouped.spilled,
    }
}

/// The members: their states, ejections included, and who is listed.
fn judge(
    input: PlanInput<'_>,
    merged: &[Merged],
    state: &mut PlanState,
    now: Moment,
) -> Vec<Member> {
    let settings = input.settings;
    let judgement = Judgement {
        health: input.health,
        admitted: state.admitted(settings),
    };
    let members = merged
        .iter()
        .map(|merged| Member::new(merged, judgement.state(merged)));
    let mut members: Vec<Member> = members.collect();
    let healthy = |addr: BackendAddr| {
        let found = members.binary_search_by_key(&addr, |member| member.addr);
        found.is_ok_and(|index| members[index].state.is_healthy())
    };
    let outcome = state.weigher.eject(healthy, &settings.weights, now);
    state.ejections.enforced += outcome.enforced;
    state.ejections.not_enforced += outcome.not_enforced;
    state.ejections.ended += outcome.ended;
    for member in &mut members {
        if member.state.is_healthy() && state.weigher.is_ejected(member.addr) {
            member.state = BackendState::Ejected;
        }
    }
    let judgement = Judgement {
        health: input.health,
        admitted: None,
    };
    judgement.list(&mut members);
    members
}

impl Plan {
    /// Whether so few backends are healthy that those that are not are listed too.
    #[must_use]
    pub fn few_are_healthy(&self) -> bool {
        eligible::few_are_healthy(&self.members)
    }

    /// How urgent it is to replace `self` by `new`; `None` if they are the same.
    #[must_use]
    pub fn lane_to(&self, new: &Self) -> Option<Lane> {
        if self == new {
            return None;
        }
        // Members stand by address: thousands of them are compared in no time.
        let listed = |addr: BackendAddr| {
            let found = new
                .members
                .binary_search_by_key(&addr, |member| member.addr);
            found.is_ok_and(|index| new.members[index].listed)
        };
        let mut members = self.members.iter().filter(|member| member.listed);
        if members.any(|old| !listed(old.addr)) {
            return Some(Lane::Removal);
        }
        if self.layout == new.layout && self.groups == new.groups {
            return Some(Lane::Unlisted);
        }
        let same = self.members.len() == new.members.len()
            && self.drops == new.drops
            && self.layout == new.layout;
        let mut pairs = self.members.iter().zip(&new.members);
        let weights_only = same && pairs.all(|(old, new)| old.is_like(new));
        Some(if weights_only {
            Lane::Weights
        } else {
            Lane::Change
        })
    }
}
