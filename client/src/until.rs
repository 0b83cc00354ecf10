//! A wait for a moment that may never come.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The moment after this time; none if the clock ends before, as with
/// [`Duration::MAX`], which is how to say never.
pub(crate) fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

/// Waits until `due`; for ever, if nothing is.
pub(crate) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
