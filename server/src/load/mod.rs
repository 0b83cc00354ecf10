//! How busy backends are: asked of those that do not register.
//!
//! ```text
//!  snapshots ─► who is to be asked ─► a session each ─► fleet.report
//!               (and how)             (over the backend's subchannel)
//! ```
//!
//! There are three ways: ORCA's stream, polling a score (`LoadReport` of bsm/grpclb),
//! and reading a page for Prometheus. Sessions are kept per backend and question,
//! not per service: a backend of three services is asked once, and its report is
//! passed on to the three. A connection that breaks makes the backend a suspect.

mod asking;
mod load_report;
mod metrics;
mod orca;
mod prometheus;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use metrics::LoadMetrics;
pub(crate) use report::pass_on;

use self::asking::Asking;
use self::prometheus::Site;
use crate::config::{Config, LoadConfig, LoadKind};
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
    /// Which way of asking: its place among those of the backend, as the ways
    /// themselves have no order.
    way: usize,
}

/// What, how often, and for whom.
#[derive(Debug)]
struct Asked {
    kind: LoadKind,
    interval: Duration,
    services: BTreeSet<ServiceName>,
}

/// A session.
#[derive(Debug)]
struct Running {
    kind: LoadKind,
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
            let stays = wanted.is_some_and(|wanted| {
                wanted.interval == running.interval && wanted.kind == running.kind
            });
            if !stays {
                running.task.abort();
            }
            stays
        });
        for (question, asked) in wanted {
            let running = running.entry(question).or_insert_with_key(|question| {
                let asking = Asking::new(question.backend, Arc::clone(&fleet), metrics.clone());
                let session = session(question, &asked, asking.clone(), &subchannels);
                Running {
                    kind: asked.kind.clone(),
                    interval: asked.interval,
                    asking,
                    task: sessions.spawn(session),
                }
            });
            running.asking.serve(asked.services);
        }
        let asked = |kind: &str| running.values().filter(|r| r.kind.as_str() == kind).count();
        metrics.asked(LoadKind::ALL.map(|kind| (kind, asked(kind))));
        // Those that were aborted.
        while sessions.try_join_next().is_some() {}
    }
    sessions.shutdown().await;
}

/// What asks one backend.
fn session(
    question: &Question,
    asked: &Asked,
    asking: Asking,
    subchannels: &Subchannels,
) -> BoxFuture<'static, ()> {
    let name = asked.services.first().map_or("", ServiceName::host);
    let (address, interval) = (&question.address, asked.interval);
    match &asked.kind {
        LoadKind::Orca => {
            let subchannel = subchannels.get(address, name);
            Box::pin(orca::follow(asking, interval, subchannel))
        }
        LoadKind::LoadReport { capacity } => {
            let subchannel = subchannels.get(address, name);
            Box::pin(load_report::poll(asking, interval, *capacity, subchannel))
        }
        LoadKind::Prometheus(config) => {
            let site = Site {
                target: address.target,
                authority: address.authority.clone().unwrap_or_else(|| name.to_owned()),
                config: config.clone(),
            };
            let seats = subchannels.seats().clone();
            Box::pin(prometheus::scrape(asking, interval, site, seats))
        }
    }
}

/// Services that ask the same of the same backend ask once, as often as the most
/// curious of them wants.
fn asked(fleet: &Fleet, config: &Config) -> BTreeMap<Question, Asked> {
    let mut ways: Vec<&LoadKind> = Vec::new();
    let mut all: BTreeMap<Question, Asked> = BTreeMap::new();
    for service in &config.services {
        let Some(load) = &service.load else {
            continue;
        };
        let snapshot = fleet.get(service.name.as_str()).and_then(|s| s.snapshot());
        let Some(snapshot) = snapshot else {
            continue;
        };
        let way = ways.iter().position(|way| **way == load.kind);
        let way = way.unwrap_or_else(|| {
            ways.push(&load.kind);
            ways.len() - 1
        });
        let members = snapshot.plan.members.iter();
        for member in members.filter(|member| service.dial.allow(member.addr.ip())) {
            let question = one(member.addr, load, way);
            let asked = all.entry(question).or_insert_with(|| Asked {
                kind: load.kind.clone(),
                interval: load.interval,
                services: BTreeSet::new(),
            });
            asked.interval = asked.interval.min(load.interval);
            asked.services.insert(service.name.clone());
        }
    }
    all
}

fn one(backend: BackendAddr, load: &LoadConfig, way: usize) -> Question {
    let port = load.port.unwrap_or_else(|| backend.port());
    Question {
        backend,
        address: Address {
            target: SocketAddr::new(backend.ip(), port),
            authority: load.authority.clone(),
        },
        way,
    }
}
