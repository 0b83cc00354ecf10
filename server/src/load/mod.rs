//! How busy backends are: asked of those that do not register.
//!
//! ```text
//!  snapshots ─► who is to be asked ─► a session each ─► fleet.report
//!               (and how)             (over the backend's subchannel)
//! ```
//!
//! Sessions are kept per backend and question, not per service: a backend of three
//! services is asked once, and its report is passed on to the three. A stream that
//! breaks makes the backend a suspect.

mod asking;
mod metrics;
mod orca;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use metrics::LoadMetrics;
pub(crate) use report::pass_on;

use self::asking::Asking;
use crate::config::{Config, LoadConfig};
use crate::fleet::Fleet;
use crate::model::{BackendAddr, ServiceName};
use crate::subchannel::{Address, Subchannels};

/// How soon a new backend is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whom to ask, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    backend: BackendAddr,
    address: Address,
}

/// How often, and for whom.
#[derive(Debug)]
struct Asked {
    interval: Duration,
    services: BTreeSet<ServiceName>,
}

/// A session.
#[derive(Debug)]
struct Running {
    interval: Duration,
    asking: Asking,
    task: AbortHandle,
}

/// Asks the backends of every service that has `load`, until `end`.
pub async fn collect(
    fleet: Arc<Fleet>,
    config: watch::Receiver<Arc<Config>>,
    subchannels: Subchannels,
    metrics: LoadMetrics,
    end: CancellationToken,
) {
    let mut sessions = JoinSet::new();
    let mut running: BTreeMap<Question, Running> = BTreeMap::new();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while end.run_until_cancelled(looks.tick()).await.is_some() {
        let config = Arc::clone(&config.borrow());
        let wanted = asked(&fleet, &config);
        running.retain(|question, running| {
            let wanted = wanted.get(question);
            let stays = wanted.is_some_and(|wanted| wanted.interval == running.interval);
            if !stays {
                running.task.abort();
            }
            stays
        });
        for (question, asked) in wanted {
            let name = asked.services.first().map(|s| s.host().to_owned());
            let running = running.entry(question).or_insert_with_key(|question| {
                let asking = Asking::new(question.backend, Arc::clone(&fleet), metrics.clone());
                let name = name.unwrap_or_default();
                let subchannel = subchannels.get(&question.address, &name);
                let session = orca::follow(asking.clone(), asked.interval, subchannel);
                Running {
                    interval: asked.interval,
                    asking,
                    task: sessions.spawn(session),
                }
            });
            running.asking.serve(asked.services);
        }
        // Those that were aborted.
        while sessions.try_join_next().is_some() {}
    }
    sessions.shutdown().await;
}

fn asked(fleet: &Fleet, config: &Config) -> BTreeMap<Question, Asked> {
    let mut all: BTreeMap<Question, Asked> = BTreeMap::new();
    for service in &config.services {
        let Some(load) = &service.load else {
            continue;
        };
        let snapshot = fleet.get(service.name.as_str()).and_then(|s| s.snapshot());
        let Some(snapshot) = snapshot else {
            continue;
        };
        for member in &snapshot.plan.members {
            let asked = all.entry(one(member.addr, load)).or_insert_with(|| Asked {
                interval: load.interval,
                services: BTreeSet::new(),
            });
            asked.interval = asked.interval.min(load.interval);
            asked.services.insert(service.name.clone());
        }
    }
    all
}

fn one(backend: BackendAddr, load: &LoadConfig) -> Question {
    let port = load.port.unwrap_or_else(|| backend.port());
    Question {
        backend,
        address: Address {
            target: SocketAddr::new(backend.ip(), port),
            authority: load.authority.clone(),
        },
    }
}
