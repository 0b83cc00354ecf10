//! What is known of a service at one moment: what was planned for its clients, and what
//! that was planned from.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::source::SourceState;
use lookaside_core::model::BackendAddr;
use lookaside_core::plan::{OverloadObservation, Plan, ServiceSettings, SourceId};
use lookaside_core::weights::{Ejections, GateCounts, Observation};

/// A published plan, and the observations behind it. It moves as a whole: a reader that
/// holds one sees members, weights and sources of one moment. It is shaped for no protocol.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Counts the plans that the service published, from 1. Snapshots of one version
    /// differ only in their observations.
    pub version: u64,
    /// When this version was published.
    pub published: Instant,
    /// Members, with state and weight; drops, zones and groups.
    pub plan: Arc<Plan>,
    /// What the operator says of the service as a whole.
    pub settings: Arc<ServiceSettings>,
    /// What was observed last.
    pub observed: Observed,
}

/// What is seen of a service's load, weights and sources.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Its sources, and how they are.
    pub sources: BTreeMap<SourceId, SourceState>,
    /// Whether its weights follow what backends report.
    pub learns: bool,
    /// Each backend's load and weight by stage, by address.
    pub backends: Vec<Observation>,
    /// How much is dropped for overload, and by what utilization.
    pub overload: OverloadObservation,
    /// What the publish gate on weights did so far.
    pub gate: GateCounts,
    /// Ejections so far.
    pub ejections: Ejections,
}

impl Observed {
    /// Backends whose load reports the policy ignores as implausible, by address.
    pub fn distrusted(&self) -> impl Iterator<Item = BackendAddr> {
        let backends = self.backends.iter().filter(|_| self.learns);
        let distrusted = backends.filter(|backend| !backend.trusted);
        distrusted.map(|backend| backend.addr)
    }

    /// Whether anything is observed of a backend.
    #[must_use]
    pub fn has(&self, backend: BackendAddr) -> bool {
        self.backends.iter().any(|seen| seen.addr == backend)
    }
}

impl Snapshot {
    /// The snapshot after `previous` for a plan that is published now.
    pub(super) fn next(
        previous: Option<&Self>,
        plan: Plan,
        settings: Arc<ServiceSettings>,
        observed: Observed,
    ) -> Self {
        Self {
            version: previous.map_or(0, |snapshot| snapshot.version) + 1,
            published: Instant::now(),
            plan: Arc::new(plan),
            settings,
            observed,
        }
    }

    /// Whether both have the same backends, whatever their states and weights.
    pub(super) fn has_backends_of(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.plan, &other.plan) {
            return true;
        }
        let (these, others) = (&self.plan.members, &other.plan.members);
        let addrs = others.iter().map(|member| member.addr);
        these.iter().map(|member| member.addr).eq(addrs)
    }

    /// Whether clients are sent something else than by `previous`.
    #[must_use]
    pub fn lists_differ_from(&self, previous: Option<&Self>) -> bool {
        previous.is_none_or(|previous| {
            let (now, before) = (&self.plan, &previous.plan);
            now.layout != before.layout || now.groups != before.groups
        })
    }
}

/// Where a service's publisher puts its snapshots.
#[derive(Debug)]
pub(super) struct Publications {
    newest: watch::Sender<Option<Arc<Snapshot>>>,
    removed: CancellationToken,
}

/// Follows the snapshots of one service. A reader that is slow misses those between: only
/// the newest counts.
#[derive(Debug, Clone)]
pub struct Snapshots {
    newest: watch::Receiver<Option<Arc<Snapshot>>>,
    removed: CancellationToken,
}

impl Default for Publications {
    fn default() -> Self {
        Self {
            newest: watch::Sender::new(None),
            removed: CancellationToken::new(),
        }
    }
}

impl Publications {
    pub(super) fn newest(&self) -> Option<Arc<Snapshot>> {
        self.newest.borrow().clone()
    }

    pub(super) fn publish(&self, snapshot: Arc<Snapshot>) {
        self.newest.send_replace(Some(snapshot));
    }

    /// Cancelled when the service is removed.
    pub(super) fn removed(&self) -> &CancellationToken {
        &self.removed
    }

    pub(super) fn follow(&self) -> Snapshots {
        let mut newest = self.newest.subscribe();
        newest.mark_changed();
        Snapshots {
            newest,
            removed: self.removed.clone(),
        }
    }
}

impl Snapshots {
    /// The newest snapshot that was not returned before: the current one at once, each
    /// later one when it is published. `None` when the service is removed.
    pub async fn next(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            tokio::select! {
                // A removed service has nothing more to say.
                biased;
                () = self.removed.cancelled() => return None,
                changed = self.newest.changed() => changed.ok()?,
            }
            let newest = self.newest.borrow_and_update().clone();
            if newest.is_some() {
                return newest;
            }
        }
    }
}
