//! From everything known of a service to what its clients should be sent.
//!
//! [`plan`] is one pure function of inputs, state and time:
//!
//! ```text
//! contributions ─► merge ─► eligible ─► weigh ─► group ─► Plan
//!                                    (weights::)
//! ```
//!
//! and [`Pace`] says when a new plan goes out.

mod eligible;
mod group;
mod merge;
mod pace;

pub use eligible::BackendState;
pub use group::GroupPlan;
pub use merge::{Contribution, MemberFields, Merged, Source};
pub use pace::{Lane, Pace, Publish};

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{BackendAddr, DropShare, Weight, Zone};
use crate::weights::{Candidate, Static, WeightPolicy};

/// What an operator says of a service as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceSettings {
    /// Share of calls to drop, by category.
    pub drops: Vec<DropShare>,
    /// The port that A/AAAA answers for the service's own name are about, if
    /// the operator names one.
    pub fallback_port: Option<u16>,
}

/// What a plan is made of.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// What each source says of the service's backends.
    pub contributions: &'a BTreeMap<Source, Contribution>,
    /// What the operator says of the service.
    pub settings: &'a ServiceSettings,
}

/// What one plan leaves to the next.
#[derive(Debug)]
pub struct PlanState {
    policy: Box<dyn WeightPolicy>,
    frozen: Option<FrozenMean>,
}

/// The mean weight that lists are scaled by, and how many backends it is of.
#[derive(Debug, Clone, Copy, PartialEq)]
struct FrozenMean {
    mean: f64,
    members: usize,
}

/// A backend in a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Where it is.
    pub addr: BackendAddr,
    /// Whether it gets calls, and why not.
    pub state: BackendState,
    /// The operator's weight.
    pub operator: Weight,
    /// The policy's factor on it.
    pub factor: f64,
    /// Where it stands.
    pub zone: Option<Zone>,
}

impl Member {
    /// The weight it is listed with; 0 if it is not listed.
    #[must_use]
    pub fn weight(&self) -> f64 {
        if self.state.is_listed() {
            self.operator.value() * self.factor
        } else {
            0.0
        }
    }
}

/// What the clients of a service should be sent, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Every known backend, listed or not, by address.
    pub members: Vec<Member>,
    /// Share of calls to drop, by category.
    pub drops: Vec<DropShare>,
    /// What each group of clients gets; at least one.
    pub groups: Vec<GroupPlan>,
}

impl Default for PlanState {
    fn default() -> Self {
        Self {
            policy: Box::new(Static),
            frozen: None,
        }
    }
}

/// Makes a plan. `now` is the time since the service began.
pub fn plan(input: PlanInput<'_>, state: &mut PlanState, now: Duration) -> Plan {
    let merged = merge::merge(input.contributions);
    let mut members: Vec<Member> = merged.iter().map(eligible::judge).collect();

    let candidates: Vec<Candidate> = members
        .iter()
        .filter(|member| member.state.is_listed())
        .map(|member| Candidate {
            addr: member.addr,
            operator: member.operator,
        })
        .collect();
    let weighed = state.policy.weigh(&candidates, now);
    let listed = members.iter_mut().filter(|member| member.state.is_listed());
    for (member, factor) in listed.zip(&weighed.factors) {
        member.factor = *factor;
    }

    let mean = state.frozen_mean(&members);
    let groups = group::group(&members, !weighed.moved, mean, &input.settings.drops);
    Plan {
        members,
        drops: input.settings.drops.clone(),
        groups,
    }
}

impl PlanState {
    /// The mean weight of the listed members, or the last one while it is off
    /// by no more than a tenth, in value and in members: then one backend's
    /// change leaves the counts of the others alone.
    fn frozen_mean(&mut self, members: &[Member]) -> Option<f64> {
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

impl Plan {
    /// How urgent it is to replace `self` by `new`; `None` if clients would not
    /// notice.
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
            found.is_ok_and(|index| new.members[index].state.is_listed())
        };
        let mut members = self.members.iter().filter(|m| m.state.is_listed());
        let gone = members.any(|old| !listed(old.addr));
        Some(if gone { Lane::Removal } else { Lane::Change })
    }
}
