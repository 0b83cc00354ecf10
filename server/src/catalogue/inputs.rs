//! What is known of one service: a value under a lock, without a clock or a task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::overrides::{Override, Overrides};
use super::service::Reported;
use super::source::{Missing, Source, SourceState};
use lookaside_core::model::BackendAddr;
use lookaside_core::plan::{
    Clients, Contribution, HealthFields, PlanInput, ServiceSettings, SourceId, SourceKind,
    TimedReport,
};
use lookaside_core::weights::Report;

/// A backend's reports that come faster than this are one too many.
const LEAST_REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// Everything that a plan is made of. What is large is shared with the plans.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) settings: Arc<ServiceSettings>,
    sources: BTreeMap<SourceId, Source>,
    overrides: Overrides,
    /// Shared with the plan that is made, and copied if it changes meanwhile.
    health: Arc<BTreeMap<BackendAddr, HealthFields>>,
    /// Of known backends only, and of each a few between two plans.
    reports: BTreeMap<BackendAddr, Vec<TimedReport>>,
    pub(super) clients: Clients,
}

/// How many of a service's sources have answered at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    None,
    Some,
    All,
}

impl Inputs {
    pub(super) fn new(
        settings: ServiceSettings,
        sources: impl IntoIterator<Item = SourceId>,
    ) -> Self {
        let sources = sources.into_iter();
        Self {
            settings: Arc::new(settings),
            sources: sources.map(|id| (id, Source::default())).collect(),
            overrides: Overrides::default(),
            health: Arc::default(),
            reports: BTreeMap::new(),
            clients: Clients::default(),
        }
    }

    /// Its sources, and how they are.
    pub(super) fn sources(&self) -> BTreeMap<SourceId, SourceState> {
        let sources = self.sources.iter();
        sources
            .map(|(id, source)| (id.clone(), source.state()))
            .collect()
    }

    /// Sources that list at least one backend.
    pub(super) fn contributors(&self) -> BTreeSet<SourceId> {
        let sources = self.sources.iter();
        let listing = sources.filter(|(_, source)| !source.listed().members.is_empty());
        listing.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn overrides(&self) -> &BTreeMap<BackendAddr, Override> {
        self.overrides.all()
    }

    /// Whether a source lists the backend.
    pub(super) fn knows(&self, backend: BackendAddr) -> bool {
        let mut sources = self.sources.values();
        sources.any(|source| source.listed().members.contains_key(&backend))
    }

    pub(super) fn answered(&self) -> Answered {
        let states = self.sources.values().map(Source::state);
        let count = states
            .filter(|state| *state != SourceState::Syncing)
            .count();
        match count {
            count if count == self.sources.len() => Answered::All,
            0 => Answered::None,
            _ => Answered::Some,
        }
    }

    /// When a backend is let go or an override is over, though nobody says anything.
    pub(super) fn next(&self) -> Option<Instant> {
        let held = self.sources.values().filter_map(Source::next);
        held.chain(self.overrides.next()).min()
    }

    // Each of the following returns whether it made a difference.

    pub(super) fn configure(
        &mut self,
        settings: ServiceSettings,
        sources: &BTreeSet<SourceId>,
        file: Option<Contribution>,
        now: Instant,
    ) -> bool {
        let same = *self.settings == settings && self.sources.keys().eq(sources);
        if same && file.is_none() {
            return false;
        }
        self.settings = Arc::new(settings);
        self.sources.retain(|id, _| sources.contains(id));
        for id in sources {
            self.sources.entry(id.clone()).or_default();
        }
        if let Some(file) = file {
            self.contribute(&SourceKind::File.into(), file, Missing::Removed, now);
        }
        true
    }

    pub(super) fn contribute(
        &mut self,
        source: &SourceId,
        contribution: Contribution,
        missing: Missing<'_>,
        now: Instant,
    ) -> bool {
        let source = self.sources.get_mut(source);
        source.is_some_and(|source| source.contribute(contribution, missing, now))
    }

    pub(super) fn mark_stale(&mut self, source: &SourceId) -> bool {
        let source = self.sources.get_mut(source);
        source.is_some_and(Source::mark_stale)
    }

    pub(super) fn withdraw(&mut self, source: &SourceId) -> bool {
        let source = self.sources.get_mut(source);
        source.is_some_and(Source::withdraw)
    }

    pub(super) fn set_override(&mut self, backend: BackendAddr, set: Override) -> bool {
        self.overrides.set(backend, set)
    }

    pub(super) fn clear_override(&mut self, backend: BackendAddr) -> bool {
        self.overrides.clear(backend)
    }

    /// Lets go of what was held long enough, and of overrides that are over.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut expired = self.overrides.expire(now);
        for source in self.sources.values_mut() {
            expired |= source.expire(now);
        }
        expired
    }

    pub(super) fn set_health(&mut self, backend: BackendAddr, health: HealthFields) -> bool {
        if !self.knows(backend) || self.health.get(&backend) == Some(&health) {
            return false;
        }
        Arc::make_mut(&mut self.health).insert(backend, health);
        true
    }

    pub(super) fn set_suspect(&mut self, backend: BackendAddr, suspect: bool) -> bool {
        let before = self.health.get(&backend);
        let same = before.is_some_and(|health| health.suspect) == suspect;
        if same || !self.knows(backend) {
            return false;
        }
        let health = Arc::make_mut(&mut self.health);
        health.entry(backend).or_default().suspect = suspect;
        true
    }

    /// Forgets the health of those among `backends` that no source lists.
    pub(super) fn forget_health(&mut self, backends: &[BackendAddr]) {
        for addr in backends {
            if !self.knows(*addr) {
                Arc::make_mut(&mut self.health).remove(addr);
            }
        }
    }

    /// A report that came at `at`, the time since the service began.
    pub(super) fn report(
        &mut self,
        backend: BackendAddr,
        at: Duration,
        report: Report,
    ) -> Reported {
        if !self.knows(backend) {
            return Reported::UnknownBackend;
        }
        let waiting = self.reports.entry(backend).or_default();
        let soon = |last: &TimedReport| at < last.at + LEAST_REPORT_INTERVAL;
        if waiting.last().is_some_and(soon) {
            return Reported::TooSoon;
        }
        waiting.push(TimedReport {
            backend,
            at,
            report,
        });
        Reported::Taken
    }

    /// What a plan is made of; takes the reports out.
    pub(super) fn view(&mut self) -> View {
        let reports = std::mem::take(&mut self.reports);
        let sources = self.sources.iter();
        let contributions = sources.map(|(id, source)| (id.clone(), source.listed().clone()));
        let overrides = self.overrides.contribution(|backend| self.knows(backend));
        let overrides = (SourceKind::Override.into(), overrides);
        View {
            settings: Arc::clone(&self.settings),
            contributions: contributions.chain([overrides]).collect(),
            health: Arc::clone(&self.health),
            reports: reports.into_values().flatten().collect(),
            clients: self.clients.clone(),
        }
    }
}

/// What is known of a service at one moment, to plan by. It shares what is large with
/// the service, so that no feeder waits for a plan.
#[derive(Debug)]
pub(super) struct View {
    pub(super) settings: Arc<ServiceSettings>,
    contributions: BTreeMap<SourceId, Contribution>,
    health: Arc<BTreeMap<BackendAddr, HealthFields>>,
    reports: Vec<TimedReport>,
    clients: Clients,
}

impl View {
    pub(super) fn input(&self) -> PlanInput<'_> {
        PlanInput {
            contributions: &self.contributions,
            settings: &self.settings,
            health: &self.health,
            reports: &self.reports,
            clients: &self.clients,
        }
    }

    /// Backends whose health is known, and that no source lists.
    pub(super) fn unlisted(&self) -> Vec<BackendAddr> {
        let known = self.health.keys();
        let listed = |addr: &&BackendAddr| {
            let mut contributions = self.contributions.values();
            contributions.any(|contribution| contribution.members.contains_key(*addr))
        };
        known.filter(|addr| !listed(addr)).copied().collect()
    }
}
