//! How busy backends are: asked of those that do not register.
//!
//! ```text
//!  snapshots ─► who is to be asked ─► a session each ─► fleet.report
//!               (and how)             (over the backend's subchannel)
//! ```
//!
//! There are three ways: ORCA's stream, polling a score (`LoadReport` of bsm/grpclb),
//! and reading a page for Prometheus. A service may name several, and a backend is asked
//! by the first that it has. Sessions are kept per backend and question, not per service: a backend of three services is asked once, and its report is
//! passed on to the three. A connection that breaks makes the backend a suspect.

mod asking;
mod load_report;
mod metrics;
mod orca;
mod prometheus;
mod report;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use metrics::LoadMetrics;
pub(crate) use report::pass_on;

use self::asking::Asking;
use self::ways::Ways;
use crate::config::{Config, LoadConfig};
use crate::fleet::Fleet;
use crate::model::{BackendAddr, ServiceName};
use crate::subchannel::Subchannels;

/// How soon a new backend is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whom to ask, and in which ways: their place among those of all services, as the
/// ways themselves have no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    backend: BackendAddr,
    ways: usize,
}

/// What, how often, and for whom.
#[derive(Debug)]
struct Asked {
    ways: Vec<LoadConfig>,
    services: BTreeSet<ServiceName>,
}

/// A session.
#[derive(Debug)]
struct Running {
    ways: Vec<LoadConfig>,
    asking: Asking,
    task: AbortHandle,
}

/// Asks the backends of every service that has `load`, until `end`.
pub async fn collect(
    fleet: Arc<Fleet>,
    mut config: watch::Receiver<Arc<Config>>,
    subchannels: Subchannels,
    metrics: LoadMetrics,
    end: CancellationToken,
) {
    let mut sessions = JoinSet::new();
    let mut running: BTreeMap<Question, Running> = BTreeMap::new();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    while end.run_until_cancelled(looks.tick()).await.is_some() {
        let changed = config.has_changed().unwrap_or(false);
        let config = Arc::clone(&config.borrow_and_update());
        let now = fleet.versions(config.services.iter().map(|s| &s.name));
        if !changed && seen.as_ref() == Some(&now) {
            continue;
        }
        seen = Some(now);
        let wanted = asked(&fleet, &config);
        running.retain(|question, running| {
            let wanted = wanted.get(question);
            let stays = wanted.is_some_and(|wanted| wanted.ways == running.ways);
            if !stays {
                running.task.abort();
            }
            stays
        });
        for (question, asked) in wanted {
            let running = running.entry(question).or_insert_with_key(|question| {
                let asking = Asking::new(question.backend, Arc::clone(&fleet), metrics.clone());
                let name = asked.services.first().map_or("", ServiceName::host);
                let session = Ways {
                    asking: asking.clone(),
                    ways: asked.ways.clone(),
                    name: name.to_owned(),
                    subchannels: subchannels.clone(),
                };
                Running {
                    ways: asked.ways,
                    asking,
                    task: sessions.spawn(session.ask()),
                }
            });
            running.asking.serve(asked.services);
        }
        // Those that were aborted.
        while sessions.try_join_next().is_some() {}
    }
    sessions.shutdown().await;
}

/// Services that ask the same of the same backend ask once, as often as the most
/// curious of them wants.
fn asked(fleet: &Fleet, config: &Config) -> BTreeMap<Question, Asked> {
    let mut known: Vec<&[LoadConfig]> = Vec::new();
    let mut all: BTreeMap<Question, Asked> = BTreeMap::new();
    for service in config.services.iter().filter(|s| !s.load.is_empty()) {
        let snapshot = fleet.get(service.name.as_str()).and_then(|s| s.snapshot());
        let Some(snapshot) = snapshot else {
            continue;
        };
        let ways = known
            .iter()
            .position(|known| are_like(known, &service.load));
        let ways = ways.unwrap_or_else(|| {
            known.push(&service.load);
            known.len() - 1
        });
        let members = snapshot.plan.members.iter();
        for member in members.filter(|member| service.dial.allow(member.addr.ip())) {
            let question = Question {
                backend: member.addr,
                ways,
            };
            let asked = all.entry(question).or_insert_with(|| Asked {
                ways: service.load.clone(),
                services: BTreeSet::new(),
            });
            for (way, other) in asked.ways.iter_mut().zip(&service.load) {
                way.interval = way.interval.min(other.interval);
            }
            asked.services.insert(service.name.clone());
        }
    }
    all
}

fn are_like(one: &[LoadConfig], other: &[LoadConfig]) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.all(|(one, other)| one.is_like(other))
}
