//! What a restart must not lose.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::hold::Hold;
use super::record::Record;
use super::{GateCounts, Weigher};
use crate::model::BackendAddr;
use crate::weights::ejection::Ejector;
use crate::weights::moment::{Moment, Rebase};
use crate::weights::policy::{PolicyChoice, WeightPolicy};

/// The state of a [`Weigher`], as plain data: every moment in it is relative to
/// the saving. Numbers keep every digit, so that a loaded one goes on exactly
/// as the saved one would have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedWeights {
    policy: SavedPolicy,
    shadow: Option<SavedPolicy>,
    ejector: Ejector,
    ticked: Option<Moment>,
    began: bool,
    reopen: bool,
    hold: Hold,
    backends: BTreeMap<String, Record>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedPolicy {
    name: String,
    state: Option<serde_json::Value>,
}

impl SavedPolicy {
    fn of(policy: &dyn WeightPolicy, now: Moment) -> Self {
        Self {
            name: policy.name().to_owned(),
            state: policy.save(now),
        }
    }

    /// The policy, if it is `choice`.
    fn restore(self, choice: PolicyChoice, now: Moment) -> Option<Box<dyn WeightPolicy>> {
        if self.name != choice.name() {
            return None;
        }
        let mut policy = choice.make();
        if let Some(state) = self.state {
            policy.load(state, now);
        }
        Some(policy)
    }
}

impl Weigher {
    /// Everything it knows.
    #[must_use]
    pub fn save(&self, now: Moment) -> SavedWeights {
        let backends = self.records.iter().map(|(addr, record)| {
            let mut record = record.clone();
            record.rebase(now, Moment::ZERO);
            (addr.to_string(), record)
        });
        let mut ejector = self.ejector;
        ejector.rebase(now, Moment::ZERO);
        let mut hold = self.hold;
        hold.rebase(now, Moment::ZERO);
        SavedWeights {
            policy: SavedPolicy::of(self.policy.as_ref(), now),
            shadow: self.shadow.as_deref().map(|s| SavedPolicy::of(s, now)),
            ejector,
            ticked: self.ticked.map(|t| t.moved(now, Moment::ZERO)),
            began: self.began,
            reopen: self.reopen,
            hold,
            backends: backends.collect(),
        }
    }

    /// Goes on from what was saved; `now` is the moment of the saving as this
    /// process counts, which may be before it began. A policy that is neither
    /// `policy` nor `shadow` is not restored.
    #[must_use]
    pub fn load(
        saved: SavedWeights,
        policy: PolicyChoice,
        shadow: Option<PolicyChoice>,
        now: Moment,
    ) -> Self {
        let backends = saved.backends.into_iter().filter_map(|(addr, mut record)| {
            record.rebase(Moment::ZERO, now);
            let addr: BackendAddr = addr.parse().ok()?;
            Some((addr, record))
        });
        let mut ejector = saved.ejector;
        ejector.rebase(Moment::ZERO, now);
        let mut hold = saved.hold;
        hold.rebase(Moment::ZERO, now);
        let shadow = shadow.and_then(|choice| saved.shadow?.restore(choice, now));
        let restored = saved.policy.restore(policy, now);
        let reopen = saved.reopen || restored.is_none();
        Self {
            policy: restored.unwrap_or_else(|| policy.make()),
            shadow,
            records: backends.collect(),
            ejector,
            ticked: saved.ticked.map(|t| t.moved(Moment::ZERO, now)),
            began: saved.began,
            reopen,
            hold,
            gate: GateCounts::default(),
        }
    }
}
