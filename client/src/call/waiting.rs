//! What an RPC waits for before it leaves: a picker that has a connection, or room on
//! the connection.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tonic::Status;

use super::body::deadline_exceeded;
use crate::control::{Progress, Published};
use crate::subchannel::Connection;

/// Waits for the next output without missing one: it subscribes before the pick
/// that may make it wait a second time.
pub(super) struct Outputs<'a> {
    published: &'a Published,
    waits: &'a Waits,
    progress: Option<watch::Receiver<Progress>>,
}

impl<'a> Outputs<'a> {
    pub(super) fn new(published: &'a Published, waits: &'a Waits) -> Self {
        Self {
            published,
            waits,
            progress: None,
        }
    }

    pub(super) async fn next(&mut self) {
        match &mut self.progress {
            // The caller picked before there was a subscription: it has to pick
            // once more before it may wait.
            None => self.progress = Some(self.published.subscribe()),
            Some(progress) => {
                self.waits.for_connection();
                // The sender lives in `published`.
                let _ = progress.changed().await;
                self.waits.for_answer();
            }
        }
    }
}

/// What one RPC waits for at the moment.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<Wait>);

#[derive(Debug, Default)]
enum Wait {
    /// For its answer.
    #[default]
    Answer,
    /// For a picker that has a connection.
    Connection,
    /// For its server to allow one more RPC on this connection, or one of so many
    /// others.
    Room(Connection, usize),
}

impl Waits {
    pub(super) fn for_answer(&self) {
        *self.lock() = Wait::Answer;
    }

    pub(super) fn for_connection(&self) {
        *self.lock() = Wait::Connection;
    }

    pub(super) fn for_room(&self, connection: &Connection, others: usize) {
        *self.lock() = Wait::Room(connection.clone(), others);
    }

    fn lock(&self) -> MutexGuard<'_, Wait> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status of the RPC when its timeout is over: if it has not left, with why.
    pub(super) fn expired(&self, published: &Published) -> Status {
        let reason = match &*self.lock() {
            Wait::Answer => return deadline_exceeded(),
            Wait::Connection => {
                let output = published.output();
                let reason = output.picker.failure();
                let reason = reason.unwrap_or("none has been opened or refused yet");
                format!("it waited for a connection: {reason}")
            }
            Wait::Room(connection, others) => {
                let (peer, limit) = (connection.peer(), connection.limit());
                let others = match others {
                    0 => String::new(),
                    many => format!("; of {many} other backends none had room"),
                };
                format!(
                    "it was not sent: {peer} allows {limit} calls at a time on a connection \
                     (MAX_CONCURRENT_STREAMS), and as many were under way{others}"
                )
            }
        };
        let metrics = published.metrics();
        metrics.expired.fetch_add(1, Relaxed);
        Status::deadline_exceeded(format!("the call's timeout is over, and {reason}"))
    }
}
