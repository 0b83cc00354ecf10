//! A wait for a moment that may never come.

use tokio::time::{Instant, sleep_until};

/// Waits until `due`; for ever, if nothing is.
pub(crate) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
