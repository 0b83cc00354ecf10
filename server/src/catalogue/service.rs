//! One service: what is known of it, and what is published of that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::inputs::{Answered, Inputs, View};
use super::membership::Membership;
use super::memory::SaveRequests;
use super::overrides::Override;
use super::snapshot::{Publications, Snapshot, Snapshots};
use super::source::{Missing, SourceState};
use lookaside_core::model::{BackendAddr, ServiceName};
use lookaside_core::plan::{Clients, Contribution, HealthFields, ServiceSettings, SourceId};
use lookaside_core::weights::Report;

/// A backend that fails this share of its calls is looked at as soon as it
/// says so.
const ALARMING: f64 = 0.85;

/// What became of a backend's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reported {
    /// It counts from the next plan on.
    Taken,
    /// No source knows the backend.
    UnknownBackend,
    /// It came too soon after the one before, and is ignored.
    TooSoon,
}

/// A service: its inputs, which feeders and fronts write through the
/// [`Catalogue`](super::Catalogue), and its snapshots.
#[derive(Debug)]
pub struct Service {
    name: ServiceName,
    started: Instant,
    // A std mutex: it is held for a few instructions, never over an await or a plan.
    inputs: Mutex<Inputs>,
    changed: Notify,
    clients_changed: Notify,
    publications: Publications,
    saving: SaveRequests,
    membership: Membership,
}

impl Service {
    pub(super) fn new(
        name: ServiceName,
        settings: ServiceSettings,
        sources: impl IntoIterator<Item = SourceId>,
        membership: Membership,
    ) -> Self {
        Self {
            name,
            started: Instant::now(),
            inputs: Mutex::new(Inputs::new(settings, sources)),
            changed: Notify::new(),
            clients_changed: Notify::new(),
            publications: Publications::default(),
            saving: SaveRequests::default(),
            membership,
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Follows its snapshots.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        self.publications.follow()
    }

    /// The newest snapshot; `None` until the service is ready.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.publications.newest()
    }

    /// Waits for the first snapshot. Returns at once if the service was removed.
    pub async fn ready(&self) {
        self.snapshots().next().await;
    }

    /// Whether it was removed from the configuration.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.publications.removed().is_cancelled()
    }

    /// What its operator says of it as a whole.
    #[must_use]
    pub fn settings(&self) -> Arc<ServiceSettings> {
        Arc::clone(&self.lock().settings)
    }

    /// Its sources and how they are.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<SourceId, SourceState> {
        self.lock().sources()
    }

    /// What operators set of its backends at run time, those included that no source lists.
    #[must_use]
    pub fn overrides(&self) -> BTreeMap<BackendAddr, Override> {
        self.lock().overrides().clone()
    }

    /// Sources that list at least one backend.
    #[must_use]
    pub fn contributors(&self) -> BTreeSet<SourceId> {
        self.lock().contributors()
    }

    /// Says where its clients are: how many streams each list has. Of a service with one
    /// list for all it does not matter.
    pub fn set_clients(&self, clients: Clients) {
        let mut inputs = self.lock();
        if inputs.clients != clients {
            inputs.clients = clients;
            drop(inputs);
            self.clients_changed.notify_one();
        }
    }

    /// What a source that is not among `sources` any more said is gone at once; one
    /// that is new syncs, and clients that have a list keep it meanwhile. What the `file`
    /// lists now, if that changed, is seen together with the settings.
    pub(super) fn configure(
        &self,
        settings: ServiceSettings,
        sources: &BTreeSet<SourceId>,
        file: Option<Contribution>,
    ) {
        let now = Instant::now();
        self.change(|inputs| inputs.configure(settings, sources, file, now));
    }

    /// Ignored from a source that the service does not have.
    pub(super) fn contribute(
        &self,
        source: &SourceId,
        contribution: Contribution,
        missing: Missing<'_>,
    ) {
        let now = Instant::now();
        self.change(|inputs| inputs.contribute(source, contribution, missing, now));
    }

    pub(super) fn mark_stale(&self, source: &SourceId) {
        self.change(|inputs| inputs.mark_stale(source));
    }

    pub(super) fn withdraw(&self, source: &SourceId) {
        self.change(|inputs| inputs.withdraw(source));
    }

    pub(super) fn set_override(&self, backend: BackendAddr, set: Override) {
        self.change(|inputs| inputs.set_override(backend, set));
    }

    pub(super) fn clear_override(&self, backend: BackendAddr) {
        self.change(|inputs| inputs.clear_override(backend));
    }

    /// Lets go of what is over now. Returns whether there was anything, and when there will
    /// be next.
    pub(super) fn expire(&self) -> (bool, Option<Instant>) {
        let mut inputs = self.lock();
        (inputs.expire(Instant::now()), inputs.next())
    }

    pub(super) fn report(&self, backend: BackendAddr, report: Report) -> Reported {
        let reported = self.lock().report(backend, self.age(), report);
        if reported == Reported::Taken && report.failing_share() >= ALARMING {
            self.changed.notify_one();
        }
        reported
    }

    pub(super) fn set_health(&self, backend: BackendAddr, health: HealthFields) {
        self.change(|inputs| inputs.set_health(backend, health));
    }

    /// Says whether there is a reason to doubt that a backend is there; returns whether
    /// it is known at all.
    pub(super) fn set_suspect(&self, backend: BackendAddr, suspect: bool) -> bool {
        let mut known = false;
        self.change(|inputs| {
            known = inputs.knows(backend);
            inputs.set_suspect(backend, suspect)
        });
        known
    }

    /// Takes it out of the catalogue: its publisher ends, and its snapshots.
    pub(super) fn remove(&self) {
        self.publications.removed().cancel();
    }

    pub(super) fn removed(&self) -> &CancellationToken {
        self.publications.removed()
    }

    /// Where its publisher is asked what it has learned.
    pub(super) fn saving(&self) -> &SaveRequests {
        &self.saving
    }

    /// Something changed that a plan is made of.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Its clients are elsewhere than before.
    pub(super) async fn clients_changed(&self) -> Clients {
        self.clients_changed.notified().await;
        self.lock().clients.clone()
    }

    /// Time since it began.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// How many of its sources have answered.
    pub(super) fn answered(&self) -> Answered {
        self.lock().answered()
    }

    /// What is known now, and the reports that came since the last time: what a plan
    /// should fail on must not come again.
    pub(super) fn view(&self) -> View {
        let view = self.lock().view();
        let unknown = view.unlisted();
        if !unknown.is_empty() {
            self.lock().forget_health(&unknown);
        }
        view
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        let before = self.snapshot();
        let same = before.is_some_and(|before| before.has_backends_of(&snapshot));
        self.publications.publish(Arc::new(snapshot));
        if !same {
            self.membership.note_change();
        }
    }

    /// Waits for a snapshot newer than `version`.
    #[cfg(test)]
    pub(crate) async fn newer_than(&self, version: u64) {
        let mut snapshots = self.snapshots();
        while let Some(snapshot) = snapshots.next().await
            && snapshot.version <= version
        {}
    }

    /// Applies a change that says whether it made a difference.
    fn change(&self, change: impl FnOnce(&mut Inputs) -> bool) {
        let changed = change(&mut self.lock());
        if changed {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
