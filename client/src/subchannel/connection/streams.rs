//! Which connection has room for one more RPC: a server says how many it allows at a
//! time on each (`SETTINGS_MAX_CONCURRENT_STREAMS`), and a backend may have several.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::future::select_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, OwnedSemaphorePermit, TryAcquireError};

use super::Connection;

/// The right to begin one stream on a connection. Whoever has it waits no more.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    pub(super) connection: Connection,
    pub(super) permit: OwnedSemaphorePermit,
}

/// Why there is none at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoStream {
    /// As many RPCs as the server allows are under way.
    Full,
    /// The connection takes no more RPCs.
    Closed,
}

/// The connections beside the first, and the word between RPCs that find no room and
/// the task that opens them.
#[derive(Debug, Default)]
pub(super) struct Further {
    connections: ArcSwap<Vec<Connection>>,
    /// An RPC found no room.
    wanted: Notify,
    /// There is another connection.
    opened: Notify,
}

impl Connection {
    /// Whether the server allows no more RPCs for the moment, on this connection and
    /// on those beside it: the next one waits until another ends, or goes elsewhere.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.has_no_room()
            && self
                .0
                .further
                .connections
                .load()
                .iter()
                .all(Self::has_no_room)
    }

    fn has_no_room(&self) -> bool {
        let room = &self.0.shared.room;
        room.available_permits() == 0 && !room.is_closed()
    }

    /// A stream on this connection, or else on one beside it.
    pub(crate) fn reserve(&self) -> Result<StreamPermit, NoStream> {
        self.reserve_here().or_else(|none| {
            let further = self.0.further.connections.load();
            let mut others = further.iter().filter(|_| none == NoStream::Full);
            others
                .find_map(|other| other.reserve_here().ok())
                .ok_or(none)
        })
    }

    fn reserve_here(&self) -> Result<StreamPermit, NoStream> {
        match Arc::clone(&self.0.shared.room).try_acquire_owned() {
            Ok(permit) => Ok(StreamPermit {
                connection: self.clone(),
                permit,
            }),
            Err(TryAcquireError::NoPermits) => Err(NoStream::Full),
            Err(TryAcquireError::Closed) => Err(NoStream::Closed),
        }
    }

    /// Waits for a stream here. `None` if the connection takes no more RPCs.
    async fn wait_here(self) -> Option<StreamPermit> {
        let permit = Arc::clone(&self.0.shared.room).acquire_owned().await.ok()?;
        Some(StreamPermit {
            connection: self,
            permit,
        })
    }

    /// Waits until an RPC finds no room.
    pub(in crate::subchannel) async fn wanted(&self) {
        self.0.further.wanted.notified().await;
    }

    /// RPCs may go over `other`, too.
    pub(in crate::subchannel) fn add(&self, other: Self) {
        self.change(|others| others.push(other));
        self.0.further.opened.notify_waiters();
    }

    /// `other` takes no more RPCs.
    pub(in crate::subchannel) fn remove(&self, other: &Self) {
        self.change(|others| others.retain(|one| one != other));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Self>)) {
        // Only the task that opens them does this.
        let mut others = Vec::clone(&self.0.further.connections.load());
        change(&mut others);
        self.0.further.connections.store(Arc::new(others));
    }
}

/// Waits for a stream on any of `connections`, or on one beside them, in the order of
/// those who wait; says which of them it is.
///
/// # Errors
/// Which of them takes no more RPCs.
pub(crate) async fn first_stream(
    connections: &[&Connection],
) -> Result<(usize, StreamPermit), usize> {
    loop {
        // Before the look at what there is.
        let opened = connections.iter().map(|connection| {
            let mut opened = Box::pin(connection.0.further.opened.notified());
            opened.as_mut().enable();
            opened
        });
        let mut opened = select_all(opened);
        let mut waiting = FuturesUnordered::new();
        for (index, connection) in connections.iter().enumerate() {
            connection.0.further.wanted.notify_one();
            let further = Arc::clone(&connection.0.further.connections.load());
            let further = further.iter().map(|other| (other.clone(), false));
            for (one, is_first) in further.chain([((*connection).clone(), true)]) {
                waiting.push(async move { (index, is_first, one.wait_here().await) });
            }
        }
        loop {
            tokio::select! {
                Some(ended) = waiting.next() => match ended {
                    (index, _, Some(permit)) => return Ok((index, permit)),
                    (index, true, None) => return Err(index),
                    (_, false, None) => {}
                },
                _ = &mut opened => break,
            }
        }
    }
}
