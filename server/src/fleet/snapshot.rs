//! What the clients of a service are sent, all of it at one moment.

use std::sync::Arc;

use tokio::time::Instant;

use super::seating::Seat;
use lookaside_core::list::ServerLists;
use lookaside_core::plan::{GroupPlan, Plan};

/// A published plan. It moves as a whole: whoever holds one sees members,
/// weights and lists that belong together.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the service's publishes, from 1.
    pub version: u64,
    /// What was planned, and why.
    pub plan: Plan,
    /// What each group of clients is sent, by the lists of the plan's layout.
    pub groups: Vec<Arc<Group>>,
    /// Counts the layouts, from 1.
    pub(super) epoch: u32,
    /// When it was published.
    pub published: Instant,
}

/// What one group of clients is sent.
#[derive(Debug)]
pub struct Group {
    /// The snapshot version in which this group last changed.
    pub version: u64,
    /// The message.
    pub listing: Listing,
    plan: GroupPlan,
    /// By variant, the version in which what its streams are sent last changed:
    /// weights that move a little move no entry of most variants.
    changed: Box<[u64]>,
}

/// What goes down a stream after its handshake.
#[derive(Debug)]
pub enum Listing {
    /// A server list, encoded on first use.
    Servers(ServerLists),
    /// `fallback_response`.
    Fallback,
}

impl Snapshot {
    /// The snapshot after `previous` for this plan. Groups that did not change
    /// are the previous ones, bytes and all.
    pub(super) fn next(previous: Option<&Self>, plan: Plan) -> Self {
        let version = previous.map_or(0, |snapshot| snapshot.version) + 1;
        let same = previous.filter(|snapshot| snapshot.plan.layout == plan.layout);
        let groups = plan.groups.iter().enumerate().map(|(index, group)| {
            let old = same.and_then(|snapshot| snapshot.groups.get(index));
            match old {
                Some(old) if old.plan == *group => Arc::clone(old),
                _ => Arc::new(Group::new(version, group, old.map(Arc::as_ref))),
            }
        });
        Self {
            version,
            groups: groups.collect(),
            epoch: match (previous, same) {
                (_, Some(same)) => same.epoch,
                (previous, None) => previous.map_or(0, |snapshot| snapshot.epoch) + 1,
            },
            plan,
            published: Instant::now(),
        }
    }

    /// Whether clients are sent something else than by `previous`.
    pub(super) fn lists_differ_from(&self, previous: Option<&Self>) -> bool {
        previous.is_none_or(|previous| {
            let mut pairs = self.groups.iter().zip(&previous.groups);
            self.epoch != previous.epoch || pairs.any(|(new, old)| !Arc::ptr_eq(new, old))
        })
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
    #[must_use]
    pub fn version_for(&self, ordinal: u64) -> u64 {
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
