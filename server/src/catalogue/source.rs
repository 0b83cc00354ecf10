//! One source of a service's backends: what it listed last, and what is held of that.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::hold::Hold;
use lookaside_core::model::BackendAddr;
use lookaside_core::plan::Contribution;

/// How far a source of a service's backends is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// It has not answered yet.
    Syncing,
    /// What it listed last is what it lists now.
    Synced,
    /// It does not answer; what it listed last stands.
    Stale,
    /// Most of its backends vanished at once: these many stay listed for [`HOLD`].
    ///
    /// [`HOLD`]: super::HOLD
    Holding {
        /// Backends that stay listed though the source no longer lists them.
        backends: usize,
    },
}

/// What is to be made of backends that a source no longer lists.
#[derive(Debug, Clone, Copy)]
pub(super) enum Missing<'a> {
    /// They were taken out on purpose.
    Removed,
    /// They vanished, but for these, which are known to be gone.
    Vanished { but: &'a BTreeSet<BackendAddr> },
}

#[derive(Debug, Default)]
pub(super) struct Source {
    answered: Answered,
    /// What it listed last.
    own: Contribution,
    hold: Hold,
    /// Both together.
    listed: Contribution,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Answered {
    #[default]
    Never,
    Once,
    /// Not when it was asked last.
    Before,
}

impl Source {
    /// What is listed by it: what it lists itself, and what is held.
    pub(super) fn listed(&self) -> &Contribution {
        &self.listed
    }

    pub(super) fn state(&self) -> SourceState {
        match (self.answered, self.hold.len()) {
            (Answered::Never, _) => SourceState::Syncing,
            (Answered::Before, _) => SourceState::Stale,
            (Answered::Once, 0) => SourceState::Synced,
            (Answered::Once, backends) => SourceState::Holding { backends },
        }
    }

    /// When something is to be done about it though it says nothing.
    pub(super) fn next(&self) -> Option<Instant> {
        self.hold.next()
    }

    // Each of the following returns whether it made a difference.

    /// It lists these now, and no others.
    pub(super) fn contribute(
        &mut self,
        own: Contribution,
        missing: Missing<'_>,
        now: Instant,
    ) -> bool {
        let answered = std::mem::replace(&mut self.answered, Answered::Once);
        let held = self.hold.len();
        match missing {
            Missing::Removed => self.hold = Hold::default(),
            Missing::Vanished { but } => {
                for addr in own.members.keys().chain(but) {
                    self.hold.release(*addr);
                }
                let gone = self.own.members.iter();
                let gone =
                    gone.filter(|(addr, _)| !own.members.contains_key(addr) && !but.contains(addr));
                let gone = gone.map(|(addr, fields)| (*addr, fields.clone())).collect();
                self.hold.vanish(gone, own.members.len(), now);
            }
        }
        let same = self.own == own && self.hold.len() == held;
        self.own = own;
        if !same {
            self.list();
        }
        !same || answered != Answered::Once
    }

    /// It does not answer.
    pub(super) fn mark_stale(&mut self) -> bool {
        let answered = self.answered == Answered::Once;
        if answered {
            self.answered = Answered::Before;
        }
        answered
    }

    /// Takes back all that it said, as if it had not answered yet.
    pub(super) fn withdraw(&mut self) -> bool {
        let answered = self.answered != Answered::Never;
        *self = Self::default();
        answered
    }

    /// Lets go of what was held long enough.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let expired = self.hold.expire(now);
        if expired {
            self.list();
        }
        expired
    }

    fn list(&mut self) {
        self.listed = self.own.clone();
        if self.hold.len() > 0 {
            let members = Arc::make_mut(&mut self.listed.members);
            members.extend(self.hold.backends());
        }
    }
}
