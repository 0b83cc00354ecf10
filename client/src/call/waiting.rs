//! Waiting for a picker that has a connection.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::watch;
use tonic::Status;

use super::body::deadline_exceeded;
use crate::control::{Progress, Published};

/// Waits for the next output without missing one: it subscribes before the pick
/// that may make it wait a second time.
pub(super) struct Outputs<'a> {
    published: &'a Published,
    waits: &'a AtomicBool,
    progress: Option<watch::Receiver<Progress>>,
}

impl<'a> Outputs<'a> {
    pub(super) fn new(published: &'a Published, waits: &'a AtomicBool) -> Self {
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
                self.waits.store(true, Relaxed);
                // The sender lives in `published`.
                let _ = progress.changed().await;
                self.waits.store(false, Relaxed);
            }
        }
    }
}

/// The status of an RPC whose timeout is over: if it waited, with what for.
pub(super) fn expired(published: &Published, waited: bool) -> Status {
    if !waited {
        return deadline_exceeded();
    }
    published.metrics().expired.fetch_add(1, Relaxed);
    let output = published.output();
    let reason = output.picker.failure();
    let reason = reason.unwrap_or("none has been opened or refused yet");
    Status::deadline_exceeded(format!(
        "the call's timeout is over, and it waited for a connection: {reason}"
    ))
}
