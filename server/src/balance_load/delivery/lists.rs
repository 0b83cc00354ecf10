//! What the clients of a service are sent, by group: a snapshot in the shape of grpclb.

use std::sync::Arc;

use super::seating::Seat;
use crate::catalogue::Snapshot;
use lookaside_core::list::ServerLists;
use lookaside_core::plan::{GroupPlan, Layout};

/// What each group of clients is sent, of one version of the service's snapshots.
#[derive(Debug)]
pub(super) struct GroupLists {
    /// That of the snapshot.
    pub(super) version: u64,
    /// Counts the layouts, from 1.
    pub(super) epoch: u32,
    pub(super) layout: Layout,
    /// By the lists of the layout.
    pub(super) groups: Vec<Arc<Group>>,
}

/// What one group of clients is sent.
#[derive(Debug)]
pub(in crate::balance_load) struct Group {
    /// The snapshot version in which this group last changed.
    pub(in crate::balance_load) version: u64,
    /// The message.
    pub(in crate::balance_load) listing: Listing,
    plan: GroupPlan,
    /// By variant, the version in which what its streams are sent last changed:
    /// weights that move a little move no entry of most variants.
    changed: Box<[u64]>,
}

/// What goes down a stream after its handshake.
#[derive(Debug)]
pub(in crate::balance_load) enum Listing {
    /// A server list, encoded on first use.
    Servers(ServerLists),
    /// `fallback_response`.
    Fallback,
}

impl GroupLists {
    /// The lists of a snapshot that comes after `previous`. Groups that did not change
    /// are the previous ones, bytes and all.
    pub(super) fn next(previous: Option<&Self>, snapshot: &Snapshot) -> Self {
        let plan = &snapshot.plan;
        let same = previous.filter(|previous| previous.layout == plan.layout);
        let groups = plan.groups.iter().enumerate().map(|(index, group)| {
            let old = same.and_then(|same| same.groups.get(index));
            match old {
                Some(old) if old.plan == *group => Arc::clone(old),
                _ => Arc::new(Group::new(snapshot.version, group, old.map(Arc::as_ref))),
            }
        });
        Self {
            version: snapshot.version,
            groups: groups.collect(),
            epoch: match (previous, same) {
                (_, Some(same)) => same.epoch,
                (previous, None) => previous.map_or(0, |previous| previous.epoch) + 1,
            },
            layout: plan.layout.clone(),
        }
    }

    /// The group of a stream that sits here; `None` if the stream is about to get
    /// another seat.
    pub(super) fn group(&self, seat: Seat) -> Option<&Arc<Group>> {
        let groups = (seat.epoch == self.epoch).then_some(&self.groups)?;
        groups.get(seat.list as usize)
    }
}

impl Group {
    /// The version in which what the stream with this ordinal is sent last
    /// changed: if it was sent that, it needs nothing new.
    pub(in crate::balance_load) fn version_for(&self, ordinal: u64) -> u64 {
        self.changed[(ordinal % self.changed.len() as u64) as usize]
    }

    fn new(version: u64, plan: &GroupPlan, old: Option<&Self>) -> Self {
        let listing = match plan {
            GroupPlan::Servers(spec) => Listing::Servers(ServerLists::new(spec.clone())),
            GroupPlan::Fallback => Listing::Fallback,
        };
        let changed = match (&listing, old) {
            (Listing::Servers(lists), Some(old)) => (0..lists.variant_count() as u64)
                .map(|variant| match &old.listing {
                    Listing::Servers(before) if lists.has_same_variant(before, variant) => {
                        old.version_for(variant)
                    }
                    _ => version,
                })
                .collect(),
            (Listing::Servers(lists), None) => vec![version; lists.variant_count()].into(),
            (Listing::Fallback, _) => Box::from([version]),
        };
        Self {
            version,
            listing,
            plan: plan.clone(),
            changed,
        }
    }
}
