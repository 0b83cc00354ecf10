//! What operators set of backends at run time: one more source, which goes before all
//! others and lists no backend by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use lookaside_core::model::{BackendAddr, Weight};
use lookaside_core::plan::{Contribution, MemberFields};

/// What an operator set of one backend at run time.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// Its share relative to the others, before what its source states.
    pub weight: Option<Weight>,
    /// Whether it gets no new calls. A drain that another source states stays.
    pub drain: bool,
    /// The name of whoever set it, for people.
    pub owner: Arc<str>,
    /// When it is over; `None` if it stays until it is cleared.
    pub expires: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Overrides {
    set: BTreeMap<BackendAddr, Override>,
}

impl Overrides {
    pub(super) fn all(&self) -> &BTreeMap<BackendAddr, Override> {
        &self.set
    }

    /// What they state of the backends that `is_known` to another source.
    pub(super) fn contribution(&self, is_known: impl Fn(BackendAddr) -> bool) -> Contribution {
        let known = self.set.iter().filter(|(addr, _)| is_known(**addr));
        let members = known.map(|(addr, set)| {
            let fields = MemberFields {
                weight: set.weight,
                drain: Some(set.drain),
                ..MemberFields::default()
            };
            (*addr, fields)
        });
        members.collect()
    }

    /// When the next one is over.
    pub(super) fn next(&self) -> Option<Instant> {
        self.set.values().filter_map(|set| set.expires).min()
    }

    // Each of the following returns whether it made a difference.

    pub(super) fn set(&mut self, backend: BackendAddr, set: Override) -> bool {
        self.set.get(&backend) != Some(&set) && {
            self.set.insert(backend, set);
            true
        }
    }

    pub(super) fn clear(&mut self, backend: BackendAddr) -> bool {
        self.set.remove(&backend).is_some()
    }

    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.set.len();
        self.set
            .retain(|_, set| set.expires.is_none_or(|at| at > now));
        self.set.len() != before
    }
}
