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
mod sessions;
mod ways;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use metrics::LoadMetrics;
pub(crate) use report::{REPORT_RESULTS, pass_on};

use self::asking::Asking;
use self::sessions::{Sessions, Wanted};
use self::ways::Ways;
use crate::config::Config;
use crate::fleet::Fleet;
use crate::subchannel::Subchannels;
use lookaside_core::model::ServiceName;

/// How soon a new backend is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A session.
#[derive(Debug)]
struct Running {
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
    let mut running: Sessions<Running> = Sessions::default();
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
        let wanted = wanted(&fleet, &config);
        running.follow(
            wanted,
            |backend, asked| {
                let asking = Asking::new(backend, Arc::clone(&fleet), metrics.clone());
                let name = asked.services.first().map_or("", ServiceName::host);
                let session = Ways {
                    asking: asking.clone(),
                    ways: asked.ways.clone(),
                    name: name.to_owned(),
                    subchannels: subchannels.clone(),
                };
                let task = sessions.spawn(session.ask());
                Running { asking, task }
            },
            |running, services| running.asking.serve(services),
            |ended| ended.task.abort(),
        );
        // Those that were aborted.
        while sessions.try_join_next().is_some() {}
    }
    sessions.shutdown().await;
}

/// Whom to ask, what, and for whom.
fn wanted(fleet: &Fleet, config: &Config) -> Wanted {
    let mut wanted = Wanted::default();
    for service in config.services.iter().filter(|s| !s.load.is_empty()) {
        let snapshot = fleet.get(service.name.as_str()).and_then(|s| s.snapshot());
        let Some(snapshot) = snapshot else {
            continue;
        };
        let members = snapshot.plan.members.iter();
        for member in members.filter(|member| service.dial.allow(member.addr.ip())) {
            wanted.add(member.addr, &service.name, &service.load);
        }
    }
    wanted
}
