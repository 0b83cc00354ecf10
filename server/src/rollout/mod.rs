//! How a configuration reaches the parts of the balancer: one value, which each part
//! follows and applies itself, and one place that knows how far it is applied.
//!
//! ```text
//!  file ─► Rollout::replace ─► Revision ─► Part::next ─► the part applies it
//!              ▲                                             │
//!           settled ◄────────── all parts ◄── Part::applied ─┘
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::config::Config;

/// The configuration that runs, and who has applied it. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Rollout(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    newest: watch::Sender<Arc<Revision>>,
    /// The newest revision that every part has applied.
    applied: watch::Sender<Applied>,
    /// A std mutex: held to change an entry and compare the few.
    parts: Mutex<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    /// The revision that each part has applied, by the part's number.
    applied: BTreeMap<u64, (&'static str, u64)>,
    next: u64,
}

/// One configuration among those that the process has run.
#[derive(Debug)]
pub struct Revision {
    /// Counts them, from 1.
    pub number: u64,
    /// What the configuration file says; where a key is settled at start, what runs.
    pub config: Arc<Config>,
}

/// A revision that every part has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The number of the revision.
    pub revision: u64,
    /// Since when all parts run it.
    pub since: SystemTime,
}

/// A part of the balancer that applies configurations. One that is dropped is not waited
/// for.
#[derive(Debug)]
pub struct Part {
    number: u64,
    revisions: watch::Receiver<Arc<Revision>>,
    shared: Arc<Shared>,
}

impl Rollout {
    /// Begins with the configuration that the balancer starts with.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let first = Revision {
            number: 1,
            config: Arc::new(config),
        };
        Self(Arc::new(Shared {
            newest: watch::Sender::new(Arc::new(first)),
            applied: watch::Sender::new(Applied {
                revision: 1,
                since: SystemTime::now(),
            }),
            parts: Mutex::default(),
        }))
    }

    /// The newest revision.
    #[must_use]
    pub fn current(&self) -> Arc<Revision> {
        Arc::clone(&self.0.newest.borrow())
    }

    /// The configuration of the newest revision.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.newest.borrow().config)
    }

    /// Makes this the newest revision; returns its number.
    pub fn replace(&self, config: Config) -> u64 {
        let config = Arc::new(config);
        self.0.newest.send_modify(|newest| {
            let number = newest.number + 1;
            *newest = Arc::new(Revision { number, config });
        });
        self.0.settle(&self.0.parts());
        self.current().number
    }

    /// A part, by its name in messages. It has applied what is the newest revision now.
    #[must_use]
    pub fn part(&self, name: &'static str) -> Part {
        let mut parts = self.0.parts();
        let revisions = self.0.newest.subscribe();
        let number = parts.next;
        parts.next += 1;
        let applied = revisions.borrow().number;
        parts.applied.insert(number, (name, applied));
        drop(parts);
        Part {
            number,
            revisions,
            shared: Arc::clone(&self.0),
        }
    }

    /// The newest revision that every part has applied.
    #[must_use]
    pub fn applied(&self) -> Applied {
        *self.0.applied.borrow()
    }

    /// Parts that have not applied the newest revision yet.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        let parts = self.0.parts();
        let newest = self.0.newest.borrow().number;
        let pending = parts.applied.values();
        let pending = pending.filter(|(_, applied)| *applied < newest);
        pending.map(|(name, _)| *name).collect()
    }

    /// Every revision, for a test that is no part.
    #[cfg(test)]
    pub(crate) fn revisions(&self) -> watch::Receiver<Arc<Revision>> {
        self.0.newest.subscribe()
    }

    /// Waits until every part has applied the newest revision.
    pub async fn settled(&self) {
        let newest = self.current().number;
        let mut applied = self.0.applied.subscribe();
        // The sender lives in self, so this ends only with a value.
        let _ = applied.wait_for(|applied| applied.revision >= newest).await;
    }
}

impl Shared {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes it if all parts have applied the newest revision.
    fn settle(&self, parts: &Parts) {
        let newest = self.newest.borrow().number;
        if parts.applied.values().any(|(_, applied)| *applied < newest) {
            return;
        }
        self.applied.send_if_modified(|applied| {
            let news = applied.revision < newest;
            if news {
                *applied = Applied {
                    revision: newest,
                    since: SystemTime::now(),
                };
            }
            news
        });
    }
}

impl Part {
    /// The configuration of the newest revision, returned by [`Self::next`] or not.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.revisions.borrow().config)
    }

    /// The newest revision, once there is one that was not returned before. The part
    /// applies it, and then says so by [`Self::applied`].
    pub async fn next(&mut self) -> Arc<Revision> {
        // The sender lives in `shared`, so this ends only with a value.
        let _ = self.revisions.changed().await;
        Arc::clone(&self.revisions.borrow_and_update())
    }

    /// Whether [`Self::next`] would return at once.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.revisions.has_changed().unwrap_or(false)
    }

    /// The newest revision, whether it was returned before or not.
    pub fn take(&mut self) -> Arc<Revision> {
        Arc::clone(&self.revisions.borrow_and_update())
    }

    /// The part does what this revision says.
    pub fn applied(&self, revision: &Revision) {
        let mut parts = self.shared.parts();
        if let Some((_, applied)) = parts.applied.get_mut(&self.number) {
            *applied = revision.number.max(*applied);
        }
        self.shared.settle(&parts);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut parts = self.shared.parts();
        parts.applied.remove(&self.number);
        self.shared.settle(&parts);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::config::parse;

    fn config(name: &str) -> Config {
        let text = format!("[[service]]\nname = \"{name}\"\nbackends = []\n");
        parse(&text, "lookaside.toml").unwrap()
    }

    async fn is_settled(rollout: &Rollout) -> bool {
        timeout(Duration::from_secs(1), rollout.settled())
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_revision_is_applied_when_every_part_says_so() {
        let rollout = Rollout::new(config("a.test"));
        let (mut one, mut two) = (rollout.part("one"), rollout.part("two"));
        assert!(is_settled(&rollout).await);
        assert_eq!(rollout.replace(config("b.test")), 2);
        let revision = one.next().await;
        assert_eq!(revision.config.services[0].name.as_str(), "b.test");
        one.applied(&revision);
        assert_eq!(rollout.pending(), ["two"]);
        assert!(!is_settled(&rollout).await);
        assert_eq!(rollout.applied().revision, 1);
        let revision = two.next().await;
        two.applied(&revision);
        assert!(is_settled(&rollout).await);
        assert_eq!(rollout.applied().revision, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_ended_is_not_waited_for_and_a_slow_one_gets_the_newest() {
        let rollout = Rollout::new(config("a.test"));
        let (mut slow, ended) = (rollout.part("slow"), rollout.part("ended"));
        rollout.replace(config("b.test"));
        rollout.replace(config("c.test"));
        drop(ended);
        assert_eq!(rollout.pending(), ["slow"]);
        let revision = slow.next().await;
        assert_eq!(revision.number, 3);
        slow.applied(&revision);
        assert!(is_settled(&rollout).await);
        assert!(!slow.has_next());
    }

    #[tokio::test(start_paused = true)]
    async fn without_parts_a_revision_is_applied_at_once() {
        let rollout = Rollout::new(config("a.test"));
        rollout.replace(config("b.test"));
        assert!(is_settled(&rollout).await);
        assert_eq!(rollout.applied().revision, 2);
    }
}
