//! One service: what is known of it, and what its streams are sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::snapshot::{Group, Snapshot};
use super::subscribers::{EndReason, Subscribers, Subscription};
use crate::model::ServiceName;
use crate::plan::{Contribution, PlanInput, ServiceSettings, Source};

/// How far a source of a service's backends is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// It has not answered yet.
    Syncing,
    /// What it said last is what it says now.
    Synced,
    /// It does not answer; what it said last stands.
    Stale,
}

/// A service and its subscribers.
#[derive(Debug)]
pub struct Service {
    name: ServiceName,
    started: Instant,
    inputs: Mutex<Inputs>,
    changed: Notify,
    snapshot: ArcSwapOption<Snapshot>,
    published: watch::Sender<u64>,
    subscribers: Subscribers,
    retired: CancellationToken,
}

#[derive(Debug)]
struct Inputs {
    settings: ServiceSettings,
    sources: BTreeMap<Source, SourceState>,
    contributions: BTreeMap<Source, Contribution>,
}

impl Service {
    pub(super) fn new(
        name: ServiceName,
        settings: ServiceSettings,
        sources: impl IntoIterator<Item = Source>,
    ) -> Self {
        let sources = sources.into_iter();
        Self {
            name,
            started: Instant::now(),
            inputs: Mutex::new(Inputs {
                settings,
                sources: sources.map(|s| (s, SourceState::Syncing)).collect(),
                contributions: BTreeMap::new(),
            }),
            changed: Notify::new(),
            snapshot: ArcSwapOption::empty(),
            published: watch::Sender::new(0),
            subscribers: Subscribers::default(),
            retired: CancellationToken::new(),
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// What its clients are sent now; `None` until it is ready.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// What its operator says of it as a whole.
    #[must_use]
    pub fn settings(&self) -> ServiceSettings {
        self.lock().settings.clone()
    }

    /// Its sources and how they are.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<Source, SourceState> {
        self.lock().sources.clone()
    }

    /// How many streams follow it.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.subscribers.len()
    }

    /// Waits for the first snapshot.
    pub async fn ready(&self) {
        let mut published = self.published.subscribe();
        // The sender lives in self, so this ends only with a publish.
        let _ = published.wait_for(|version| *version > 0).await;
    }

    /// Waits for a snapshot newer than `version`.
    pub async fn newer_than(&self, version: u64) {
        let mut published = self.published.subscribe();
        let _ = published.wait_for(|newest| *newest > version).await;
    }

    /// Joins the streams that follow it. Cancelling `connection` must close
    /// the stream's connection: that is what happens to a client that takes
    /// nothing for too long.
    ///
    /// # Errors
    /// If the service is going away.
    pub fn subscribe(
        self: &Arc<Self>,
        connection: CancellationToken,
    ) -> Result<Subscription, EndReason> {
        self.subscribers.join(self, connection)
    }

    pub(super) fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    /// The group of the stream with this ordinal.
    pub(super) fn group_of(&self, ordinal: usize) -> Option<Arc<Group>> {
        let snapshot = self.snapshot.load();
        let groups = &snapshot.as_ref()?.groups;
        groups.get(ordinal % groups.len()).map(Arc::clone)
    }

    pub(super) fn configure(&self, settings: ServiceSettings) {
        let mut inputs = self.lock();
        if inputs.settings != settings {
            inputs.settings = settings;
            drop(inputs);
            self.changed.notify_one();
        }
    }

    pub(super) fn contribute(&self, source: Source, contribution: Contribution) {
        let mut inputs = self.lock();
        inputs.sources.insert(source, SourceState::Synced);
        inputs.contributions.insert(source, contribution);
        drop(inputs);
        self.changed.notify_one();
    }

    pub(super) fn mark_stale(&self, source: Source) {
        let mut inputs = self.lock();
        let state = inputs.sources.entry(source).or_insert(SourceState::Syncing);
        if *state == SourceState::Synced {
            *state = SourceState::Stale;
        }
    }

    /// Takes it out of service: its publisher ends the streams and itself.
    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    pub(super) fn retired(&self) -> &CancellationToken {
        &self.retired
    }

    pub(super) fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Time since it began.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Whether every source has answered once, and whether any has.
    pub(super) fn answered(&self) -> (bool, bool) {
        let inputs = self.lock();
        let states = inputs.sources.values();
        let all = states.clone().all(|state| *state != SourceState::Syncing);
        let any = states.clone().any(|state| *state != SourceState::Syncing);
        (all, any)
    }

    /// Runs `plan` on what is known now.
    pub(super) fn with_inputs<T>(&self, plan: impl FnOnce(PlanInput<'_>) -> T) -> T {
        let inputs = self.lock();
        plan(PlanInput {
            contributions: &inputs.contributions,
            settings: &inputs.settings,
        })
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        let version = snapshot.version;
        self.snapshot.store(Some(Arc::new(snapshot)));
        self.published.send_replace(version);
        self.subscribers.wake_all(self.age());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
