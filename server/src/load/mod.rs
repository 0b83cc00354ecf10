//! How busy backends are: asked of those that do not register.
//!
//! ```text
//!  snapshots ─► who is to be asked ─► a session each ─► fleet.report
//!  (every second)                      (one connection, one ORCA stream)
//! ```
//!
//! Sessions are kept per address, not per service: a backend of three services is
//! asked once, and its report is passed on to the three.

mod metrics;
mod orca;
mod report;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use metrics::LoadMetrics;
pub(crate) use report::pass_on;

use crate::config::{Config, LoadConfig};
use crate::fleet::Fleet;
use crate::model::{BackendAddr, ServiceName};

/// How soon a new backend is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whom to ask, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    backend: BackendAddr,
    /// Where it answers.
    target: SocketAddr,
    /// What it is called there.
    authority: String,
    /// How often it should report.
    interval: Duration,
    /// Who wants to know.
    services: Vec<ServiceName>,
}

/// Asks the backends of every service that has `load`, until `end`.
pub async fn collect(
    fleet: Arc<Fleet>,
    config: watch::Receiver<Arc<Config>>,
    metrics: LoadMetrics,
    end: CancellationToken,
) {
    let mut sessions = JoinSet::new();
    let mut running: BTreeMap<BackendAddr, (Asked, AbortHandle)> = BTreeMap::new();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while end.run_until_cancelled(looks.tick()).await.is_some() {
        let config = Arc::clone(&config.borrow());
        let wanted = asked(&fleet, &config);
        running.retain(|backend, (asked, session)| {
            let stays = wanted.get(backend) == Some(asked);
            if !stays {
                session.abort();
            }
            stays
        });
        for (backend, asked) in wanted {
            running.entry(backend).or_insert_with(|| {
                let session = orca::follow(asked.clone(), Arc::clone(&fleet), metrics.clone());
                (asked, sessions.spawn(session))
            });
        }
        // Those that were aborted.
        while sessions.try_join_next().is_some() {}
    }
    sessions.shutdown().await;
}

fn asked(fleet: &Fleet, config: &Config) -> BTreeMap<BackendAddr, Asked> {
    let mut all: BTreeMap<BackendAddr, Asked> = BTreeMap::new();
    for service in &config.services {
        let Some(load) = &service.load else {
            continue;
        };
        let snapshot = fleet.get(service.name.as_str()).and_then(|s| s.snapshot());
        let Some(snapshot) = snapshot else {
            continue;
        };
        for member in &snapshot.plan.members {
            let asked = all
                .entry(member.addr)
                .or_insert_with(|| one(member.addr, &service.name, load));
            asked.interval = asked.interval.min(load.interval);
            asked.services.push(service.name.clone());
        }
    }
    all
}

fn one(backend: BackendAddr, service: &ServiceName, load: &LoadConfig) -> Asked {
    let port = load.port.unwrap_or_else(|| backend.port());
    Asked {
        backend,
        target: SocketAddr::new(backend.ip(), port),
        authority: load
            .authority
            .clone()
            .unwrap_or_else(|| service.host().to_owned()),
        interval: load.interval,
        services: Vec::new(),
    }
}
