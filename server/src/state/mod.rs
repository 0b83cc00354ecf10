//! What services learned, in a file: a balancer that is started again goes on
//! from the weights that clients have.
//!
//! ```text
//! start:  file ─► decode ─► catalogue.remember ─► publishers
//! later:  publishers ─► catalogue.recollect ─► encode ─► new file, renamed over it
//! ```
//!
//! It is saved when weights went out, at most every ten seconds, else every
//! minute, and at the end. Nothing about the file can keep a balancer from
//! starting, or a service from having a list: what cannot be used is said, and
//! done without.

mod disk;
mod format;
mod metrics;

pub use disk::trouble_with;
pub use format::{Decoded, Unusable, decode, encode};
pub use metrics::StateMetrics;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::catalogue::{Catalogue, Remembered};
use crate::config::Config;
use crate::file;
use lookaside_core::model::ServiceName;

/// It is saved this often, whatever happens.
const EVERY: Duration = Duration::from_secs(60);

/// And no more often than this.
const LEAST: Duration = Duration::from_secs(10);

/// A disk that takes longer hangs, and the end of the balancer does not wait for it.
const SAVING: Duration = Duration::from_secs(8);

/// Says once, if weights are learned and will not be kept, how they would be.
pub fn recommend(config: &Config) {
    let mut learning = config.services.iter().filter(|s| s.weights.learns());
    if config.balancer.state.is_none()
        && let Some(service) = learning.next()
    {
        info!(
            service = %service.name,
            "weights that are learned are lost when the balancer is started again; \
             balancer.state = \"/var/lib/lookaside/state\" would keep them"
        );
    }
}

/// The file that holds what services learned.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// How old what was read from it is, if it was used.
    loaded: Option<Duration>,
}

impl StateFile {
    /// Reads the file into the catalogue, which should have no services yet. What is
    /// wrong with it is logged.
    #[must_use]
    pub fn load(path: PathBuf, catalogue: &Catalogue) -> Self {
        let file = path.display().to_string();
        if let Some(trouble) = trouble_with(&path) {
            warn!(
                file,
                "learned weights cannot be kept over a restart: {trouble}"
            );
        }
        let read = match disk::read(&path) {
            Ok(read) => read,
            Err(error) => {
                warn!(
                    file,
                    %error,
                    "the state cannot be read; weights are learned anew. Let this user read it, \
                     or remove it"
                );
                None
            }
        };
        let decoded = read.map(|bytes| decode(&bytes, SystemTime::now()));
        let loaded = match decoded {
            None => None,
            Some(Err(unusable)) => {
                warn!(
                    file,
                    "the state is not used, weights are learned anew: {unusable}"
                );
                None
            }
            Some(Ok(decoded)) => {
                for (service, error) in &decoded.unreadable {
                    warn!(
                        file,
                        service,
                        error,
                        "the state of this service cannot be read; its weights are learned anew"
                    );
                }
                let age = decoded.age;
                info!(file, ?age, services = decoded.services.len(), "state read");
                for (service, remembered) in decoded.services {
                    catalogue.remember(service, remembered);
                }
                Some(age)
            }
        };
        Self { path, loaded }
    }

    /// Saves what services learn until `draining`, then a last time; ends upon
    /// `end`.
    pub async fn keep(
        self,
        catalogue: Arc<Catalogue>,
        metrics: StateMetrics,
        draining: CancellationToken,
        end: CancellationToken,
    ) {
        metrics.loaded(self.loaded);
        let mut saved = Instant::now();
        let mut failure = None;
        loop {
            let due = async {
                tokio::select! {
                    () = sleep_until(saved + EVERY) => {}
                    () = catalogue.learned() => sleep_until(saved + LEAST).await,
                }
            };
            let more = draining.run_until_cancelled(due).await.is_some();
            let remembered = catalogue.recollect().await;
            saved = Instant::now();
            self.save(remembered, &metrics, &mut failure).await;
            if !more {
                break;
            }
        }
        end.cancelled().await;
    }

    async fn save(
        &self,
        remembered: BTreeMap<ServiceName, Remembered>,
        metrics: &StateMetrics,
        failure: &mut Option<String>,
    ) {
        let services = remembered.len();
        let written = file::run(&self.path, SAVING, move |path| {
            let bytes = encode(&remembered, SystemTime::now()).map_err(|e| e.to_string())?;
            disk::write(path, &bytes).map_err(|e| unsaved(&e))
        });
        let written = written.await.unwrap_or_else(|error| Err(error.to_string()));
        let file = self.path.display();
        match written {
            Ok(()) => {
                metrics.saved(services);
                if failure.take().is_some() {
                    info!(%file, "the state can be saved again");
                }
            }
            Err(error) => {
                metrics.failed();
                // Once, not every minute.
                if failure.as_ref() != Some(&error) {
                    warn!(
                        %file,
                        error,
                        "the state cannot be saved: a balancer that is started again will not \
                         know the weights it learned"
                    );
                    *failure = Some(error);
                }
            }
        }
    }
}

/// Why the file could not be written, and what would be right.
fn unsaved(error: &io::Error) -> String {
    let right = match error.kind() {
        // Our own words, which say it.
        io::ErrorKind::Other => return error.to_string(),
        io::ErrorKind::NotFound => "make its folder",
        io::ErrorKind::PermissionDenied => "let this user write to its folder",
        _ => return format!("{error}; if that does not pass, name another file in balancer.state"),
    };
    format!("{error}; {right}, or name another file in balancer.state")
}

#[cfg(test)]
mod tests;
