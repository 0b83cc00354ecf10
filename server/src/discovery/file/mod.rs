//! `lookaside.toml` as a source: read at start, and again whenever it changes.
//!
//! [`ConfigFile`] does the reading, the watching and the writing to the catalogue.
//! What a text means is decided in [`config`], where it can be tested without
//! a disk:
//!
//! ```text
//! folder events ─┐
//! 1 s poll ──────┼─► looks different? ─► is it whole? ─► config::reload ─► catalogue
//! SIGHUP ────────┘   (edits, read)       (settle)                    └──► watch
//! ```

mod apply;
mod applying;
mod decision;
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
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::decision::Decider;
use self::edits::Edits;
use self::settle::Trust;
use self::watch::Gone;
use crate::catalogue::Catalogue;
use crate::config::{self, ConfigErrors};
use crate::rollout::Rollout;
use crate::wait::until;

/// How often the file is looked at without being told to: network file systems
/// tell nothing, and a folder that is made anew is not the one being watched.
const POLL: Duration = Duration::from_secs(1);

/// The configuration file and what it last said.
#[derive(Debug)]
pub struct ConfigFile {
    edits: Edits,
    decider: Decider,
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
        let file = path.display().to_string();
        let config = config::parse(&text, &file)?;
        Ok(Self {
            edits: Edits::new(path, text),
            decider: Decider::new(file, config),
        })
    }

    /// Whether a change of the file may leave the balancer without services or
    /// most of them, or a service without the backends it has. Default: no.
    #[must_use]
    pub fn allow_empty(mut self, allow: bool) -> Self {
        self.decider.allow_empty = allow;
        self
    }

    /// A file that lacks most services is applied if it says the same after this
    /// time. Default: 30 s.
    #[must_use]
    pub fn hold(mut self, hold: Duration) -> Self {
        self.decider.hold = hold;
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.edits.path()
    }

    /// The configuration that runs, and each that replaces it. Where a key is
    /// settled at start ([`config::Outcome::Applied`]), it has what runs, not
    /// what the file says.
    #[must_use]
    pub fn rollout(&self) -> Rollout {
        self.decider.rollout.clone()
    }

    /// Puts each valid configuration that the file says later into the catalogue; the
    /// one it was loaded with is the caller's to [`apply`]. An item of `hangup` (SIGHUP) has the file read again even
    /// if nothing seems to have changed.
    ///
    /// # Errors
    /// If the file cannot be watched any more. `Ok` only upon `shutdown`.
    pub async fn run(
        mut self,
        catalogue: Arc<Catalogue>,
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
                () = until(self.decider.due()) => false,
            };
            let asked = asked || self.decider.is_due(&catalogue);
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                checked = self.check(asked, &catalogue, &metrics) => checked?,
            }
        }
    }

    /// Looks at the file, waits until an edit of it is done, and decides about it.
    async fn check(
        &mut self,
        asked: bool,
        catalogue: &Catalogue,
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
            let judged = self.decider.judge(edit.content().clone(), catalogue).await;
            let judged = judged.map_err(|source| WatchError::Failed {
                path: self.path().to_owned(),
                source,
            })?;
            if trust == Trust::Valid && judged.is_refused() {
                edit.doubt();
                continue;
            }
            if let Some(applying) = self.decider.decide(judged, catalogue, metrics) {
                applying.finish(&self.decider.rollout).await;
            }
            break;
        }
        self.edits.done(edit);
        Ok(())
    }

    fn unwatched(&self) -> WatchError {
        WatchError::Ended(self.path().to_owned())
    }
}

#[cfg(test)]
mod tests;
