//! What the clients of a service are sent, all of it at one moment.

use std::sync::Arc;

use tokio::time::Instant;

use crate::plan::{GroupPlan, Plan};
use crate::server_list::ServerLists;

/// A published plan. It moves as a whole: whoever holds one sees members,
/// weights and lists that belong together.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the service's publishes, from 1.
    pub version: u64,
    /// What was planned, and why.
    pub plan: Plan,
    /// What each group of clients is sent; at least one.
    pub groups: Vec<Arc<Group>>,
    /// When it was published.
    pub published: Instant,
}

/// What one group of clients is sent.
#[derive(Debug)]
pub struct Group {
    /// The snapshot version in which this group last changed: a stream that
    /// has been sent it needs nothing new.
    pub version: u64,
    /// The message.
    pub listing: Listing,
    plan: GroupPlan,
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
        let groups = plan.groups.iter().enumerate().map(|(index, group)| {
            let old = previous.and_then(|snapshot| snapshot.groups.get(index));
            match old {
                Some(old) if old.plan == *group => Arc::clone(old),
                _ => Arc::new(Group::new(version, group)),
            }
        });
        Self {
            version,
            groups: groups.collect(),
            plan,
            published: Instant::now(),
        }
    }
}

impl Group {
    fn new(version: u64, plan: &GroupPlan) -> Self {
        Self {
            version,
            listing: match plan {
                GroupPlan::Servers(spec) => Listing::Servers(ServerLists::new(spec.clone())),
                GroupPlan::Fallback => Listing::Fallback,
            },
            plan: plan.clone(),
        }
    }
}
