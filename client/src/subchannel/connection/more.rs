//! More connections to one backend, for a server that allows few RPCs at a time on each.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::select_all;
use tokio::sync::Notify;

use super::Connection;

/// The connections beside the first, and the word between RPCs that find no room and
/// the task that opens them.
#[derive(Debug, Default)]
pub(super) struct More {
    others: ArcSwap<Vec<Connection>>,
    /// An RPC found no room.
    wanted: Notify,
    /// There is another connection.
    opened: Notify,
}

impl Connection {
    /// Whether the server allows no more RPCs for the moment, on this connection and
    /// on those beside it: the next one waits until another ends.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.has_no_room() && self.0.more.others.load().iter().all(Self::has_no_room)
    }

    fn has_no_room(&self) -> bool {
        let room = &self.0.shared.room;
        room.available_permits() == 0 && !room.is_closed()
    }

    /// Where the next RPC goes: another connection beside this one, if there is room only
    /// there. Waits for room if there is none anywhere.
    pub(super) async fn with_room(&self) -> Option<Self> {
        while self.has_no_room() {
            let mut opened = std::pin::pin!(self.0.more.opened.notified());
            opened.as_mut().enable();
            let others = Arc::clone(&self.0.more.others.load());
            let open = |other: &&Self| !other.0.shared.room.is_closed();
            let others: Vec<&Self> = others.iter().filter(open).collect();
            if let Some(other) = others.iter().find(|other| !other.has_no_room()) {
                return Some((*other).clone());
            }
            self.0.more.wanted.notify_one();
            let all = others.into_iter().chain([self]);
            let rooms = all.map(|one| Box::pin(one.0.shared.room.acquire()));
            // The permit goes back at once: which one has room is looked up again.
            tokio::select! {
                _ = select_all(rooms) => {}
                () = opened => {}
            }
        }
        None
    }

    /// Waits until an RPC finds no room.
    pub(in crate::subchannel) async fn wanted(&self) {
        self.0.more.wanted.notified().await;
    }

    /// RPCs may go over `other`, too.
    pub(in crate::subchannel) fn add(&self, other: Self) {
        self.change(|others| others.push(other));
        self.0.more.opened.notify_waiters();
    }

    /// `other` takes no more RPCs.
    pub(in crate::subchannel) fn remove(&self, other: &Self) {
        self.change(|others| others.retain(|one| one != other));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Self>)) {
        // Only the task that opens them does this.
        let mut others = Vec::clone(&self.0.more.others.load());
        change(&mut others);
        self.0.more.others.store(Arc::new(others));
    }
}
