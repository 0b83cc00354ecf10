//! How busy backends are: asked of those that do not register.
//!
//! ```text
//!  snapshots ─► who is to be asked ─► a session each ─► catalogue.report
//!               (and how)             (over the backend's subchannel)
//! ```
//!
//! There are three ways: ORCA's stream, polling a score (`LoadReport` of bsm/grpclb),
//! and reading a page for Prometheus. A service may name several, and a backend is asked
//! by the first that it has. Sessions are kept per backend and question, not per service: a backend of three services is asked once, and its report is
//! passed on to the three. A connection that breaks makes the backend a suspect.

mod load_report;
mod metrics;
mod orca;
mod prometheus;
mod sessions;
mod target;
mod ways;

use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub use metrics::LoadMetrics;

use self::sessions::{Sessions, Wanted};
use self::target::LoadTarget;
use self::ways::Ways;
use crate::catalogue::{Catalogue, Roster};
use crate::config::Config;
use crate::rollout::Part;
use crate::subchannel::Subchannels;
use lookaside_core::model::ServiceName;

/// A session.
#[derive(Debug)]
struct Running {
    asking: LoadTarget,
    task: AbortHandle,
}

/// Asks the backends of every service that has `load`, until `end`.
pub async fn collect(
    catalogue: Arc<Catalogue>,
    part: Part,
    subchannels: Subchannels,
    metrics: LoadMetrics,
    end: CancellationToken,
) {
    let mut sessions = JoinSet::new();
    let mut running: Sessions<Running> = Sessions::default();
    let mut roster = Roster::new(&catalogue, part);
    while let Some(change) = end.run_until_cancelled(roster.next()).await {
        let wanted = wanted(&catalogue, &change.revision.config);
        running.follow(
            wanted,
            |backend, asked| {
                let asking = LoadTarget::new(backend, Arc::clone(&catalogue), metrics.clone());
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
        roster.followed(&change);
    }
    sessions.shutdown().await;
}

/// Whom to ask, what, and for whom.
fn wanted(catalogue: &Catalogue, config: &Config) -> Wanted {
    let mut wanted = Wanted::default();
    for service in config.services.iter().filter(|s| !s.load.is_empty()) {
        let snapshot = catalogue
            .get(service.name.as_str())
            .and_then(|s| s.snapshot());
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
