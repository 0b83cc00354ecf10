//! Which services there are, and which backends each has, for readers of all services.

use std::sync::Arc;

use tokio::sync::watch;

/// Where changes of membership are noted. Clones are handles to the same.
#[derive(Debug, Clone)]
pub(super) struct Membership(Arc<watch::Sender<u64>>);

/// Follows which services there are, and which backends each has.
#[derive(Debug, Clone)]
pub struct Memberships(watch::Receiver<u64>);

impl Default for Membership {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Membership {
    pub(super) fn note_change(&self) {
        self.0.send_modify(|changes| *changes += 1);
    }

    pub(super) fn follow(&self) -> Memberships {
        let mut receiver = self.0.subscribe();
        receiver.mark_changed();
        Memberships(receiver)
    }
}

impl Memberships {
    /// Returns at once for the first time, and then whenever a service came or went, or a
    /// service's snapshot has other backends than the one before. Changes that come
    /// together are one. Waits for ever once the catalogue is gone.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Whether [`Self::next`] would return at once. If so, it does not any more.
    pub fn take_change(&mut self) -> bool {
        let changed = self.0.has_changed().unwrap_or(false);
        self.0.mark_unchanged();
        changed
    }
}
