//! Which backends there are, and what the configuration says of them: what a feeder
//! follows that asks backends something.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::{Catalogue, Memberships};
use crate::rollout::{Part, Revision};

/// Between two changes there is this many times what it took to follow the last one:
/// services that change all the time leave time for what is asked of their backends.
const REST: u32 = 3;

/// Follows the membership of all services together with the configuration, for a part of
/// the balancer.
#[derive(Debug)]
pub struct Roster {
    memberships: Memberships,
    part: Part,
    rested: Instant,
}

/// Something changed, or it is the first look.
#[derive(Debug)]
pub struct RosterChange {
    /// What the configuration says now.
    pub revision: Arc<Revision>,
    began: Instant,
}

impl Roster {
    /// Follows from now on; the first change is at hand.
    #[must_use]
    pub fn new(catalogue: &Catalogue, part: Part) -> Self {
        Self {
            memberships: catalogue.memberships(),
            part,
            rested: Instant::now(),
        }
    }

    /// The next change; changes that come together are one. A caller follows it and then
    /// says so by [`Self::followed`].
    pub async fn next(&mut self) -> RosterChange {
        sleep_until(self.rested).await;
        tokio::select! {
            () = self.memberships.next() => {}
            _ = self.part.next() => {}
        }
        self.memberships.take_change();
        self.change()
    }

    /// The same, if it is at hand: also while the caller should rest.
    pub fn take_change(&mut self) -> Option<RosterChange> {
        let changed = self.memberships.take_change();
        (changed || self.part.has_next()).then(|| self.change())
    }

    /// The caller does what the change asks of it.
    pub fn followed(&mut self, change: &RosterChange) {
        self.part.applied(&change.revision);
        self.rested = Instant::now() + change.began.elapsed() * REST;
    }

    fn change(&mut self) -> RosterChange {
        RosterChange {
            revision: self.part.take(),
            began: Instant::now(),
        }
    }
}
