//! `lookaside.toml` as a source: read at start, and again whenever it changes.
//!
//! [`ConfigFile`] does the reading, the watching and the writing to the fleet.
//! What a text means is decided in [`config`], where it can be tested without
//! a disk:
//!
//! ```text
//! folder events ─┐
//! 1 s poll ──────┼─► looks different? ─► read until still ─► config::reload ─► fleet
//! SIGHUP ────────┘                                                        └──► watch
//! ```

mod apply;
mod metrics;
mod read;
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
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::read::Look;
use self::watch::FolderWatch;
use crate::config::{self, Config, ConfigErrors, Outcome};
use crate::file;
use crate::fleet::Fleet;

/// A file is read when it has not changed for this long: editors and `cp`
/// write in pieces.
const SETTLE: Duration = Duration::from_millis(100);

/// How often the file is looked at without being told to: network file systems
/// tell nothing, and a folder that is made anew is not the one being watched.
const POLL: Duration = Duration::from_secs(1);

/// The configuration file and what it last said.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    allow_empty: bool,
    seen: Seen,
    in_force: channel::Sender<Arc<Config>>,
    restart: Vec<&'static str>,
}

/// The file as it was when it was last decided about.
#[derive(Debug)]
struct Seen {
    /// `None` makes the next look differ.
    look: Option<Look>,
    content: Content,
}

type Content = Result<String, ConfigErrors>;

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
            path,
            allow_empty: false,
            seen: Seen {
                look: None,
                content: Ok(text),
            },
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
        &self.path
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
        let mut folders = FolderWatch::new();
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangup = pin!(hangup.fuse());
        loop {
            let asked = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(()) = hangup.next() => true,
                told = folders.changed() => {
                    told.map_err(|_| WatchError::Ended(self.path.clone()))?;
                    false
                }
                // At once for the first time: the file may have changed since
                // it was loaded, and the folders are not yet watched.
                _ = poll.tick() => false,
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                checked = self.check(&mut folders, asked, &fleet, &metrics) => checked?,
            }
        }
    }

    async fn check(
        &mut self,
        folders: &mut FolderWatch,
        asked: bool,
        fleet: &Fleet,
        metrics: &ConfigMetrics,
    ) -> Result<(), WatchError> {
        match self.still(folders, asked).await? {
            Some(content) => self.decide(content, fleet, metrics).await,
            None => Ok(()),
        }
    }

    /// What the file says once it holds still; `None` if that is what it said
    /// before and nobody asked.
    async fn still(
        &mut self,
        folders: &mut FolderWatch,
        asked: bool,
    ) -> Result<Option<Content>, WatchError> {
        let look = self.look().await?;
        if self.seen.look.as_ref() == Some(&look) && !asked {
            return Ok(None);
        }
        // Whatever changes from here on is told; what changed before is read.
        folders.watch(&look.folders);
        let mut last = (look, self.read().await?);
        loop {
            sleep(SETTLE).await;
            let look = self.look().await?;
            if look != last.0 {
                folders.watch(&look.folders);
            }
            let now = (look, self.read().await?);
            if now == last {
                break;
            }
            last = now;
        }
        // This look held for the whole pause before the text was read, so a
        // later change of the text has a later time and looks different.
        let (look, content) = last;
        self.seen.look = Some(look);
        if content == self.seen.content && !asked {
            return Ok(None);
        }
        self.seen.content = content.clone();
        Ok(Some(content))
    }

    async fn decide(
        &mut self,
        content: Content,
        fleet: &Fleet,
        metrics: &ConfigMetrics,
    ) -> Result<(), WatchError> {
        let file = self.path.display().to_string();
        let running = self.config();
        let (outcome, warnings) = match content {
            Ok(text) => {
                let (running, file) = (Arc::clone(&running), file.clone());
                let allow_empty = self.allow_empty;
                // A hundred thousand backends are no work for a thread that
                // streams wait for.
                self.blocking(move |_| {
                    let outcome = config::reload(&running, &text, &file, allow_empty);
                    let warnings = new_warnings(&running, &outcome);
                    (outcome, warnings)
                })
                .await?
            }
            Err(errors) => (Outcome::Refused(errors.into()), Vec::new()),
        };
        let restart = match outcome {
            Outcome::Refused(refusal) => {
                metrics.failed();
                error!("configuration not applied, the one in force stays: {refusal}");
                return Ok(());
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
        Ok(())
    }

    async fn look(&self) -> Result<Look, WatchError> {
        // A file that cannot be looked at is read, which says why.
        let look = file::run(&self.path, file::PATIENCE, Look::at).await;
        Ok(look.unwrap_or_default())
    }

    async fn read(&self) -> Result<Content, WatchError> {
        Ok(read::read(&self.path).await)
    }

    /// Runs what may take long: the disk, a network behind it, or plain work.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, WatchError> {
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || work(&path)).await;
        done.map_err(|source| WatchError::Failed {
            path: self.path.clone(),
            source,
        })
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
