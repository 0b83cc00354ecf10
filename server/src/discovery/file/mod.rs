//! `lookaside.toml` as a source: read at start, and again whenever it changes.
//!
//! [`ConfigFile`] does the reading, the watching and the writing to the fleet.
//! What a text means is decided in [`config`], where it can be tested without
//! a disk:
//!
//! ```text
//! folder events ─┐
//! 1 s poll ──────┼─► looks different? ─► is it whole? ─► config::reload ─► fleet
//! SIGHUP ────────┘   (edits, read)       (settle)                    └──► watch
//! ```

mod apply;
mod edits;
mod metrics;
mod read;
mod settle;
mod watch;

pub use apply::apply;
pub use metrics::ConfigMetrics;
pub use read::read_config;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::watch as channel;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::edits::Edits;
use self::read::Content;
use self::settle::Trust;
use self::watch::Gone;
use crate::config::{self, Config, ConfigErrors, Outcome};
use crate::fleet::Fleet;

/// How often the file is looked at without being told to: network file systems
/// tell nothing, and a folder that is made anew is not the one being watched.
const POLL: Duration = Duration::from_secs(1);

/// The configuration file and what it last said.
#[derive(Debug)]
pub struct ConfigFile {
    edits: Edits,
    allow_empty: bool,
    in_force: channel::Sender<Arc<Config>>,
    restart: Vec<&'static str>,
}

/// Why the file is not watched any more.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The thread that hears of changes in folders ended.
    #[error("the watcher of {0} ended unexpectedly")]
    Ended(PathBuf),
    /// Reading failed in a way that reading cannot.
    #[error("the watcher of {path} failed")]
    Failed {
        /// The file.
        path: PathBuf,
        /// How.
        source: tokio::task::JoinError,
    },
}

impl ConfigFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// If it cannot be read or is no configuration.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, ConfigErrors> {
        let path = path.into();
        let text = read_config(&path)?;
        let config = config::parse(&text, &path.display().to_string())?;
        Ok(Self {
            edits: Edits::new(path, text),
            allow_empty: false,
            in_force: channel::Sender::new(Arc::new(config)),
            restart: Vec::new(),
        })
    }

    /// Whether a change of the file may leave the balancer without services,
    /// or a service without the backends it has. Default: no.
    #[must_use]
    pub fn allow_empty(mut self, allow: bool) -> Self {
        self.allow_empty = allow;
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.edits.path()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.in_force.borrow())
    }

    /// The configuration in force, and each that replaces it. Where a key is
    /// settled at start ([`config::Outcome::Applied`]), it has what runs, not
    /// what the file says. The channel closes when [`Self::run`] ends.
    #[must_use]
    pub fn subscribe(&self) -> channel::Receiver<Arc<Config>> {
        self.in_force.subscribe()
    }

    /// Puts each valid configuration that the file says later into the fleet; the
    /// one it was loaded with is the caller's to [`apply`]. An item of `hangup` (SIGHUP) has the file read again even
    /// if nothing seems to have changed.
    ///
    /// # Errors
    /// If the file cannot be watched any more. `Ok` only upon `shutdown`.
    pub async fn run(
        mut self,
        fleet: Arc<Fleet>,
        hangup: impl Stream<Item = ()> + Send,
        shutdown: CancellationToken,
        metrics: ConfigMetrics,
    ) -> Result<(), WatchError> {
        metrics.succeeded();
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangup = pin!(hangup.fuse());
        loop {
            let asked = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(()) = hangup.next() => true,
                told = self.edits.told() => {
                    told.map_err(|Gone| self.unwatched())?;
                    false
                }
                // At once for the first time: the file may have changed since
                // it was loaded, and the folders are not yet watched.
                _ = poll.tick() => false,
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                checked = self.check(asked, &fleet, &metrics) => checked?,
            }
        }
    }

    /// Looks at the file, waits until an edit of it is done, and decides about it.
    async fn check(
        &mut self,
        asked: bool,
        fleet: &Fleet,
        metrics: &ConfigMetrics,
    ) -> Result<(), WatchError> {
        let Some(mut edit) = self.edits.look(asked).await else {
            return Ok(());
        };
        loop {
            let trust = self.edits.settle(&mut edit).await;
            let trust = trust.map_err(|Gone| self.unwatched())?;
            if !asked && !self.edits.is_news(&edit) {
                break;
            }
            let (outcome, warnings) = self.judge(edit.content().clone()).await?;
            if trust == Trust::Valid && matches!(outcome, Outcome::Refused(_)) {
                edit.doubt();
                continue;
            }
            self.decide(outcome, warnings, fleet, metrics);
            break;
        }
        self.edits.done(edit);
        Ok(())
    }

    /// What the content means for what is in force, and what is to be said of it.
    async fn judge(&self, content: Content) -> Result<(Outcome, Vec<String>), WatchError> {
        let text = match content {
            Ok(text) => text,
            Err(errors) => return Ok((Outcome::Refused(errors.into()), Vec::new())),
        };
        let (running, file) = (self.config(), self.path().display().to_string());
        let allow_empty = self.allow_empty;
        // A hundred thousand backends are no work for a thread that streams wait for.
        let judged = spawn_blocking(move || {
            let outcome = config::reload(&running, &text, &file, allow_empty);
            let warnings = new_warnings(&running, &outcome);
            (outcome, warnings)
        });
        judged.await.map_err(|source| WatchError::Failed {
            path: self.path().to_owned(),
            source,
        })
    }

    fn decide(
        &mut self,
        outcome: Outcome,
        warnings: Vec<String>,
        fleet: &Fleet,
        metrics: &ConfigMetrics,
    ) {
        let file = self.path().display().to_string();
        let running = self.config();
        let restart = match outcome {
            Outcome::Refused(refusal) => {
                metrics.failed();
                error!("configuration not applied, the one in force stays: {refusal}");
                return;
            }
            Outcome::Unchanged { restart } => {
                info!(file, "configuration unchanged");
                restart
            }
            Outcome::Applied { config, restart } => {
                let config = Arc::new(*config);
                apply::apply_change(&running, &config, fleet);
                let backends: usize = config.services.iter().map(|s| s.backends.len()).sum();
                let services = config.services.len();
                self.in_force.send_replace(config);
                info!(file, services, backends, "configuration applied");
                for warning in warnings {
                    warn!(file, "{warning}");
                }
                restart
            }
        };
        if restart != self.restart && !restart.is_empty() {
            let keys = restart.join(", ");
            warn!(file, keys, "these keys are applied by a restart only");
        }
        metrics.succeeded();
        metrics.restart_required(!restart.is_empty());
        self.restart = restart;
    }

    fn unwatched(&self) -> WatchError {
        WatchError::Ended(self.path().to_owned())
    }
}

/// What is to be said of a configuration, and was not said of the one before.
fn new_warnings(running: &Config, outcome: &Outcome) -> Vec<String> {
    let Outcome::Applied { config, .. } = outcome else {
        return Vec::new();
    };
    let known = config::warnings(running);
    let mut warnings = config::warnings(config);
    warnings.retain(|warning| !known.contains(warning));
    warnings
}

#[cfg(test)]
mod tests;
