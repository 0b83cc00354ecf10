//! A configuration on its way to the parts of the balancer.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::{Changes, Config};
use crate::rollout::Rollout;

/// A part that takes longer hangs, and the file is looked at again without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is said of a configuration once it is applied.
#[derive(Debug)]
pub(super) struct Applying {
    file: String,
    revision: u64,
    services: usize,
    backends: usize,
    changes: Changes,
}

impl Applying {
    pub(super) fn new(file: &str, revision: u64, config: &Config, changes: Changes) -> Self {
        Self {
            file: file.to_owned(),
            revision,
            services: config.services.len(),
            backends: config.services.iter().map(|s| s.backends.len()).sum(),
            changes,
        }
    }

    /// Waits until every part has applied it, and says so.
    pub(super) async fn finish(self, rollout: &Rollout) {
        let Self {
            file,
            revision,
            services,
            backends,
            changes,
        } = self;
        if timeout(PATIENCE, rollout.settled()).await.is_ok() {
            info!(file, revision, services, backends, %changes, "configuration applied");
        } else {
            let pending = rollout.pending().join(", ");
            warn!(
                file,
                revision,
                services,
                backends,
                %changes,
                pending,
                "configuration applied to the services, but not yet by all parts of the balancer"
            );
        }
    }
}
