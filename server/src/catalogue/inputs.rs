//! What is known of one service: a value under a lock, without a clock or a task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::service::Reported;
use super::source::SourceState;
use lookaside_core::model::BackendAddr;
use lookaside_core::plan::{
    Clients, Contribution, HealthFields, PlanInput, ServiceSettings, Source, TimedReport,
};
use lookaside_core::weights::Report;

/// A backend's reports that come faster than this are one too many.
const LEAST_REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// Everything that a plan is made of. What is large is shared with the plans.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) settings: Arc<ServiceSettings>,
    pub(super) sources: BTreeMap<Source, SourceState>,
    contributions: BTreeMap<Source, Contribution>,
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
        sources: impl IntoIterator<Item = Source>,
    ) -> Self {
        let sources = sources.into_iter();
        Self {
            settings: Arc::new(settings),
            sources: sources.map(|s| (s, SourceState::Syncing)).collect(),
            contributions: BTreeMap::new(),
            health: Arc::default(),
            reports: BTreeMap::new(),
            clients: Clients::default(),
        }
    }

    /// Sources that list at least one backend.
    pub(super) fn contributors(&self) -> BTreeSet<Source> {
        let contributions = self.contributions.iter();
        let listing = contributions.filter(|(_, said)| !said.members.is_empty());
        listing.map(|(source, _)| *source).collect()
    }

    /// Whether a source lists the backend.
    pub(super) fn knows(&self, backend: BackendAddr) -> bool {
        lists(&self.contributions, backend)
    }

    pub(super) fn answered(&self) -> Answered {
        let states = self.sources.values();
        let count = states
            .filter(|state| **state != SourceState::Syncing)
            .count();
        match count {
            count if count == self.sources.len() => Answered::All,
            0 => Answered::None,
            _ => Answered::Some,
        }
    }

    // Each of the following returns whether it made a difference.

    pub(super) fn configure(
        &mut self,
        settings: ServiceSettings,
        sources: &BTreeSet<Source>,
        file: Option<Contribution>,
    ) -> bool {
        let same = *self.settings == settings && self.sources.keys().eq(sources);
        if same && file.is_none() {
            return false;
        }
        self.settings = Arc::new(settings);
        self.sources.retain(|source, _| sources.contains(source));
        self.contributions
            .retain(|source, _| sources.contains(source));
        for source in sources {
            let state = self.sources.entry(*source);
            state.or_insert(SourceState::Syncing);
        }
        if let Some(file) = file {
            self.contribute(Source::File, file);
        }
        true
    }

    pub(super) fn contribute(&mut self, source: Source, contribution: Contribution) -> bool {
        let Some(state) = self.sources.get_mut(&source) else {
            return false;
        };
        let state = std::mem::replace(state, SourceState::Synced);
        let before = self.contributions.insert(source, contribution);
        // To say the same again changes nothing.
        let same = before.as_ref() == self.contributions.get(&source);
        !same || state == SourceState::Syncing
    }

    pub(super) fn mark_stale(&mut self, source: Source) -> bool {
        match self.sources.get_mut(&source) {
            Some(state @ SourceState::Synced) => {
                *state = SourceState::Stale;
                true
            }
            _ => false,
        }
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
        let contributions = &self.contributions;
        let health = Arc::make_mut(&mut self.health);
        for addr in backends {
            if !lists(contributions, *addr) {
                health.remove(addr);
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
        View {
            settings: Arc::clone(&self.settings),
            contributions: self.contributions.clone(),
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
    contributions: BTreeMap<Source, Contribution>,
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
        let unlisted = known.filter(|addr| !lists(&self.contributions, **addr));
        unlisted.copied().collect()
    }
}

fn lists(contributions: &BTreeMap<Source, Contribution>, backend: BackendAddr) -> bool {
    let mut contributions = contributions.values();
    contributions.any(|contribution| contribution.members.contains_key(&backend))
}
