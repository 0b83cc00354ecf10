//! Whether backends are well: checked where the operator says so, and looked at
//! where something broke.
//!
//! ```text
//!  snapshots ─► who is to be checked ─► a check each ─► judge ─► catalogue.set_health
//!  suspicions ─► its check, at once; a look by TCP where there is none ─┘
//! ```
//!
//! A check is kept per backend and question: services that ask the same of the
//! same backend share it. Checks by `grpc.health.v1` go over the backend's
//! [subchannel](crate::subchannel), whose break is the first sign of its death.

mod findings;
mod grpc;
mod metrics;
mod pace;
mod probing;
mod tcp;
mod tracker;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use metrics::HealthMetrics;

use self::findings::Findings;
use self::pace::{ProbePace, StretchNews};
use self::probing::Probing;
use crate::catalogue::{Catalogue, Roster};
use crate::config::{Config, HealthConfig, HealthKind};
use crate::rollout::Part;
use crate::subchannel::{Address, Subchannels};
use lookaside_core::model::{BackendAddr, DialRules, ServiceName};
use lookaside_core::plan::HealthFields;

/// How often the pace of all checks is set.
const PACE_EVERY: Duration = Duration::from_secs(1);

/// Which checks there should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    backend: BackendAddr,
    config: Arc<HealthConfig>,
}

/// A check or a look that runs.
#[derive(Debug)]
struct Running {
    findings: Arc<Findings>,
    suspected: Arc<Notify>,
    task: AbortHandle,
}

struct Checks {
    catalogue: Arc<Catalogue>,
    subchannels: Subchannels,
    metrics: HealthMetrics,
    /// What the operator asks of each service that is checked.
    questions: BTreeMap<ServiceName, Arc<HealthConfig>>,
    /// Where each service's backends may be looked at.
    dial: BTreeMap<ServiceName, DialRules>,
    tasks: JoinSet<()>,
    running: BTreeMap<Question, Running>,
    pace: Arc<ProbePace>,
    looking: JoinSet<BackendAddr>,
    looks: BTreeMap<BackendAddr, Running>,
    look_count: Arc<AtomicUsize>,
}

/// Checks the backends of every service that has `health`, and looks at suspects,
/// until `end`.
pub async fn check(
    catalogue: Arc<Catalogue>,
    part: Part,
    subchannels: Subchannels,
    metrics: HealthMetrics,
    end: CancellationToken,
) {
    let mut checks = Checks {
        catalogue: Arc::clone(&catalogue),
        subchannels,
        metrics,
        questions: BTreeMap::new(),
        dial: BTreeMap::new(),
        tasks: JoinSet::new(),
        running: BTreeMap::new(),
        pace: Arc::default(),
        looking: JoinSet::new(),
        looks: BTreeMap::new(),
        look_count: Arc::default(),
    };
    let mut roster = Roster::new(&catalogue, part);
    let mut paces = tokio::time::interval(PACE_EVERY);
    paces.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = StretchNews::default();
    loop {
        tokio::select! {
            () = end.cancelled() => break,
            suspects = catalogue.suspects() => {
                // Their services may be newer than the last change that was followed.
                if let Some(change) = roster.take_change() {
                    checks.follow(&change.revision.config);
                    roster.followed(&change);
                }
                for (service, backend) in suspects {
                    checks.suspect(service, backend);
                }
            }
            Some(done) = checks.looking.join_next() => {
                if let Ok(backend) = done {
                    checks.looked(backend);
                }
            }
            _ = paces.tick() => checks.pace(&mut said),
            change = roster.next() => {
                checks.follow(&change.revision.config);
                roster.followed(&change);
            }
        }
    }
    checks.tasks.shutdown().await;
    checks.looking.shutdown().await;
}

impl Checks {
    /// Begins the checks that are wanted, and ends those that are not.
    fn follow(&mut self, config: &Config) {
        self.questions.clear();
        let dial = config.services.iter();
        self.dial = dial.map(|s| (s.name.clone(), s.dial.clone())).collect();
        let mut wanted: BTreeMap<Question, BTreeSet<ServiceName>> = BTreeMap::new();
        for service in &config.services {
            let Some(health) = &service.health else {
                continue;
            };
            let health = Arc::new(health.clone());
            self.questions
                .insert(service.name.clone(), Arc::clone(&health));
            let snapshot = self.catalogue.get(service.name.as_str());
            let Some(snapshot) = snapshot.and_then(|s| s.snapshot()) else {
                continue;
            };
            let members = snapshot.plan.members.iter();
            for member in members.filter(|member| service.dial.allow(member.addr.ip())) {
                let question = Question {
                    backend: member.addr,
                    config: Arc::clone(&health),
                };
                let askers = wanted.entry(question).or_default();
                askers.insert(service.name.clone());
            }
        }
        self.pace.set_checks(wanted.len());
        let running = std::mem::take(&mut self.running);
        for (question, running) in running {
            if wanted.contains_key(&question) {
                self.running.insert(question, running);
                continue;
            }
            running.task.abort();
            let before = running.findings.serve(BTreeSet::new());
            self.forget(question.backend, before);
        }
        for (question, askers) in wanted {
            let backend = question.backend;
            let running = match self.running.remove(&question) {
                Some(running) => running,
                None => self.start(&question, askers.first()),
            };
            let before = running.findings.serve(askers);
            self.running.insert(question, running);
            self.forget(backend, before);
        }
        // Those that were aborted.
        while self.tasks.try_join_next().is_some() {}
        self.follow_looks();
    }

    fn pace(&self, said: &mut StretchNews) {
        let intervals = self.questions.values().map(|health| health.interval);
        if let Some(shortest) = intervals.min() {
            self.pace.step(shortest, &self.metrics, said);
        }
    }

    /// What was found of a backend says nothing to services that do not check any
    /// more.
    fn forget(&self, backend: BackendAddr, services: BTreeSet<ServiceName>) {
        for service in services {
            if !self.questions.contains_key(&service) {
                self.catalogue
                    .set_health(&service, backend, HealthFields::default());
            }
        }
    }

    fn start(&mut self, question: &Question, asker: Option<&ServiceName>) -> Running {
        let Question { backend, config } = question.clone();
        let port = config.port.unwrap_or_else(|| backend.port());
        let target = SocketAddr::new(backend.ip(), port);
        let (findings, suspected) = self.findings(backend);
        let probing = |kind| {
            Probing::new(
                kind,
                Arc::clone(&config),
                Arc::clone(&findings),
                Arc::clone(&suspected),
                self.metrics.clone(),
                Arc::clone(&self.pace),
            )
        };
        let task = match &config.kind {
            HealthKind::Grpc {
                service,
                authority,
                tls,
            } => {
                let address = Address {
                    target,
                    authority: authority.clone(),
                    tls: tls.clone(),
                };
                let name = asker.map_or("", ServiceName::host);
                let check = grpc::Check {
                    probing: probing("grpc"),
                    subchannel: self.subchannels.get(&address, name),
                    service: service.clone(),
                    logged: false,
                };
                self.tasks.spawn(check.run())
            }
            HealthKind::Tcp => {
                let permits = self.subchannels.permits().clone();
                self.tasks
                    .spawn(tcp::check(probing("tcp"), target, permits))
            }
        };
        Running {
            findings,
            suspected,
            task,
        }
    }

    fn findings(&self, backend: BackendAddr) -> (Arc<Findings>, Arc<Notify>) {
        let (catalogue, metrics) = (Arc::clone(&self.catalogue), self.metrics.clone());
        let findings = Findings::new(catalogue, metrics, backend);
        (Arc::new(findings), Arc::default())
    }

    /// Something of a backend broke.
    fn suspect(&mut self, service: ServiceName, backend: BackendAddr) {
        if let Some(config) = self.questions.get(&service) {
            let question = Question {
                backend,
                config: Arc::clone(config),
            };
            // One that is not checked yet will be.
            if let Some(running) = self.running.get(&question) {
                running.suspected.notify_one();
            }
            return;
        }
        let dial = self.dial.get(&service);
        if !dial.is_some_and(|dial| dial.allow(backend.ip())) {
            // Nobody looks, so nobody else would say that the doubt is over.
            self.catalogue.set_suspect(&service, backend, false);
            return;
        }
        if let Some(look) = self.looks.get(&backend)
            && look.findings.add(service.clone())
        {
            look.suspected.notify_one();
            return;
        }
        let (findings, suspected) = self.findings(backend);
        findings.add(service);
        let task = self.looking.spawn(tcp::look(
            Arc::clone(&findings),
            Arc::clone(&suspected),
            self.subchannels.permits().clone(),
            self.metrics.clone(),
            Arc::clone(&self.look_count),
        ));
        let look = Running {
            findings,
            suspected,
            task,
        };
        self.looks.insert(backend, look);
        self.look_count.store(self.looks.len(), Ordering::Relaxed);
    }

    /// A look is over; unless another one has begun.
    fn looked(&mut self, backend: BackendAddr) {
        let over = self.looks.get(&backend);
        if over.is_some_and(|look| look.task.is_finished()) {
            self.looks.remove(&backend);
        }
        self.look_count.store(self.looks.len(), Ordering::Relaxed);
    }

    /// Nobody looks at who is gone, or is checked by now.
    fn follow_looks(&mut self) {
        let (catalogue, questions, dial) = (&self.catalogue, &self.questions, &self.dial);
        self.looks.retain(|backend, look| {
            let wants = |service: &ServiceName| {
                let found = catalogue.get(service.as_str());
                let snapshot = found.and_then(|service| service.snapshot());
                let known = snapshot.is_some_and(|snapshot| {
                    let members = &snapshot.plan.members;
                    members.binary_search_by_key(backend, |m| m.addr).is_ok()
                });
                let allowed = dial
                    .get(service)
                    .is_some_and(|dial| dial.allow(backend.ip()));
                let checked = questions.contains_key(service);
                if known && !allowed && !checked {
                    catalogue.set_health(service, *backend, HealthFields::default());
                }
                known && allowed && !checked
            };
            let stays = look.findings.retain(wants);
            if !stays {
                look.task.abort();
            }
            stays
        });
        self.look_count.store(self.looks.len(), Ordering::Relaxed);
    }
}
