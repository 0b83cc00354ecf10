//! What the promises are tested with: a balancer on ports of its own, streams
//! that a test drives, backends that count.
//!
//! Nothing here waits by sleeping. [`eventually`] polls a condition that only
//! the far side of a socket can fulfil, and is for that alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod authority;
mod backends;
mod balancer;
mod checked;
mod follower;

pub use authority::{Authority, Identity, TlsFront};
pub use backends::Backends;
pub use balancer::{Balancer, service};
pub use checked::{Checked, HealthMethods};
pub use follower::{Follower, List};

use std::time::Duration;

/// How long anything may take before a test gives up: long, because machines
/// that test are busy, and nothing that works waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `condition`, looking again whenever the runtime has turned over;
/// panics with `what` if it does not come.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !condition() {
            looks.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "never came: {what}");
}

/// A future that must not take longer than [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("never came: {what}"),
    }
}
