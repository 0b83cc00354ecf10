//! One service: what is known of it, and what its streams are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::memory::Asking;
use super::seating::{Client, Seat};
use super::snapshot::{Group, Snapshot};
use super::subscribers::{EndReason, Subscribers, Subscription};
use super::view::View;
use lookaside_core::model::{BackendAddr, ServiceName};
use lookaside_core::plan::{
    Clients, Contribution, HealthFields, ServiceSettings, Source, TimedReport,
};
use lookaside_core::weights::Report;

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

/// A backend's reports that come faster than this are one too many.
const LEAST_REPORT_INTERVAL: Duration = Duration::from_millis(50);

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
    saving: Asking,
    retired: CancellationToken,
}

#[derive(Debug)]
struct Inputs {
    settings: Arc<ServiceSettings>,
    sources: BTreeMap<Source, SourceState>,
    contributions: BTreeMap<Source, Contribution>,
    /// Shared with the plan that is made, and copied if it changes meanwhile.
    health: Arc<BTreeMap<BackendAddr, HealthFields>>,
    /// Of known backends only, and of each a few between two plans.
    reports: BTreeMap<BackendAddr, Vec<TimedReport>>,
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
                settings: Arc::new(settings),
                sources: sources.map(|s| (s, SourceState::Syncing)).collect(),
                contributions: BTreeMap::new(),
                health: Arc::default(),
                reports: BTreeMap::new(),
            }),
            changed: Notify::new(),
            snapshot: ArcSwapOption::empty(),
            published: watch::Sender::new(0),
            subscribers: Subscribers::default(),
            saving: Asking::default(),
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
    pub fn settings(&self) -> Arc<ServiceSettings> {
        Arc::clone(&self.lock().settings)
    }

    /// Its sources and how they are.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<Source, SourceState> {
        self.lock().sources.clone()
    }

    /// Sources that list at least one backend.
    #[must_use]
    pub fn contributors(&self) -> BTreeSet<Source> {
        let inputs = self.lock();
        let contributions = inputs.contributions.iter();
        let listing = contributions.filter(|(_, said)| !said.members.is_empty());
        listing.map(|(source, _)| *source).collect()
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

    /// How many streams each group of clients has.
    #[must_use]
    pub fn clients(&self) -> Clients {
        self.subscribers.clients()
    }

    /// Joins the streams that follow it, for a client at `ip`: where it is says
    /// which backends it gets, if not all get all. Cancelling `connection` must close
    /// the stream's connection: that is what happens to a client that takes
    /// nothing for too long.
    ///
    /// # Errors
    /// If the service is going away.
    pub fn subscribe(
        self: &Arc<Self>,
        ip: IpAddr,
        connection: CancellationToken,
    ) -> Result<Subscription, EndReason> {
        let client = Client::new(ip, &self.name);
        self.subscribers.join(self, client, connection)
    }

    pub(super) fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    /// The group of a stream that sits here; `None` if there is nothing to send, or
    /// the stream is about to get another seat.
    pub(super) fn group_of(&self, seat: Seat) -> Option<Arc<Group>> {
        let snapshot = self.snapshot.load();
        snapshot.as_ref()?.group(seat).map(Arc::clone)
    }

    /// What a source that is not among `sources` any more said is gone at once; one
    /// that is new syncs, and whoever has a list keeps it meanwhile. What the `file` lists
    /// now, if that changed, is seen together with the settings.
    pub(super) fn configure(
        &self,
        settings: ServiceSettings,
        sources: &BTreeSet<Source>,
        file: Option<Contribution>,
    ) {
        let mut inputs = self.lock();
        let same = *inputs.settings == settings && inputs.sources.keys().eq(sources);
        if same && file.is_none() {
            return;
        }
        inputs.settings = Arc::new(settings);
        inputs.sources.retain(|source, _| sources.contains(source));
        inputs
            .contributions
            .retain(|source, _| sources.contains(source));
        for source in sources {
            inputs
                .sources
                .entry(*source)
                .or_insert(SourceState::Syncing);
        }
        if let Some(file) = file
            && let Some(state) = inputs.sources.get_mut(&Source::File)
        {
            *state = SourceState::Synced;
            inputs.contributions.insert(Source::File, file);
        }
        drop(inputs);
        self.changed.notify_one();
    }

    /// Ignored from a source that the service does not have.
    pub(super) fn contribute(&self, source: Source, contribution: Contribution) {
        let mut inputs = self.lock();
        let Some(state) = inputs.sources.get_mut(&source) else {
            return;
        };
        let state = std::mem::replace(state, SourceState::Synced);
        let before = inputs.contributions.insert(source, contribution);
        // To say the same again changes nothing.
        let same = before.as_ref() == inputs.contributions.get(&source);
        drop(inputs);
        if !same || state == SourceState::Syncing {
            self.changed.notify_one();
        }
    }

    pub(super) fn report(&self, backend: BackendAddr, report: Report) -> Reported {
        let at = self.age();
        let mut inputs = self.lock();
        if !inputs.knows(backend) {
            return Reported::UnknownBackend;
        }
        let waiting = inputs.reports.entry(backend).or_default();
        let soon = |last: &TimedReport| at < last.at + LEAST_REPORT_INTERVAL;
        if waiting.last().is_some_and(soon) {
            return Reported::TooSoon;
        }
        waiting.push(TimedReport {
            backend,
            at,
            report,
        });
        drop(inputs);
        if report.failing_share() >= ALARMING {
            self.changed.notify_one();
        }
        Reported::Taken
    }

    pub(super) fn set_health(&self, backend: BackendAddr, health: HealthFields) {
        let mut inputs = self.lock();
        if !inputs.knows(backend) {
            return;
        }
        if inputs.health.get(&backend) != Some(&health) {
            Arc::make_mut(&mut inputs.health).insert(backend, health);
            drop(inputs);
            self.changed.notify_one();
        }
    }

    /// Says whether there is a reason to doubt that a backend is there; whether it
    /// is known at all.
    pub(super) fn set_suspect(&self, backend: BackendAddr, suspect: bool) -> bool {
        let mut inputs = self.lock();
        if !inputs.knows(backend) {
            return false;
        }
        let known = inputs.health.get(&backend);
        if known.is_some_and(|health| health.suspect) != suspect {
            let health = Arc::make_mut(&mut inputs.health);
            health.entry(backend).or_default().suspect = suspect;
            drop(inputs);
            self.changed.notify_one();
        }
        true
    }

    pub(super) fn mark_stale(&self, source: Source) {
        let mut inputs = self.lock();
        let state = inputs.sources.get_mut(&source);
        if let Some(state @ SourceState::Synced) = state {
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

    /// Where its publisher is asked what it has learned.
    pub(super) fn saving(&self) -> &Asking {
        &self.saving
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

    /// What is known now, and the reports that came since the last time: what a plan
    /// should fail on must not come again.
    pub(super) fn view(&self) -> View {
        let clients = self.clients();
        let mut inputs = self.lock();
        let reports = std::mem::take(&mut inputs.reports);
        let (settings, health) = (Arc::clone(&inputs.settings), Arc::clone(&inputs.health));
        let contributions = inputs.contributions.clone();
        drop(inputs);
        let unknown = health.keys().filter(|addr| !knows(&contributions, **addr));
        let unknown: Vec<BackendAddr> = unknown.copied().collect();
        let view = View {
            settings,
            contributions,
            health,
            reports: reports.into_values().flatten().collect(),
            clients,
        };
        if !unknown.is_empty() {
            self.forget_health(&unknown);
        }
        view
    }

    /// Of those among `backends` whom no source knows.
    fn forget_health(&self, backends: &[BackendAddr]) {
        let mut inputs = self.lock();
        let inputs = &mut *inputs;
        let gone = backends
            .iter()
            .filter(|addr| !knows(&inputs.contributions, **addr));
        let health = Arc::make_mut(&mut inputs.health);
        for addr in gone {
            health.remove(addr);
        }
    }

    /// Shows the snapshot to the streams; returns how many of those whose groups
    /// changed are sent the same as before.
    pub(super) fn publish(&self, snapshot: Snapshot) -> usize {
        let snapshot = Arc::new(snapshot);
        // A stream whose seat is of a layout that is not shown yet waits for it.
        self.subscribers.seat(&snapshot.plan.layout, snapshot.epoch);
        self.snapshot.store(Some(Arc::clone(&snapshot)));
        self.published.send_replace(snapshot.version);
        self.subscribers.wake(&snapshot, self.age())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inputs {
    fn knows(&self, backend: BackendAddr) -> bool {
        knows(&self.contributions, backend)
    }
}

fn knows(contributions: &BTreeMap<Source, Contribution>, backend: BackendAddr) -> bool {
    let mut contributions = contributions.values();
    contributions.any(|contribution| contribution.members.contains_key(&backend))
}
