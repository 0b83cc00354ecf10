//! What the log says of a balancer that is lost, and of its return.

use std::time::Duration;

use tokio::time::Instant;

/// A stream that lasted this long behind its last list is worth a log line when it
/// is lost.
const LASTING: Duration = Duration::from_secs(5);
/// Least time between two log lines about a lost balancer.
const LOSS_LOG: Duration = Duration::from_secs(60);

/// Logs each loss and its end, once; but no more than once in [`LOSS_LOG`] of a
/// balancer that is lost again and again.
#[derive(Debug, Default)]
pub(super) struct LossLog {
    logged_at: Option<Instant>,
    /// Whether the present loss was logged, so that its end is, too.
    told: bool,
    /// When the last list came.
    list_at: Option<Instant>,
}

impl LossLog {
    /// There was a balancer, and now there is none.
    pub(super) fn lost(&mut self, reason: &str) {
        let lasted = self.list_at.is_some_and(|at| at.elapsed() >= LASTING);
        let logged = self.logged_at.map(|at| at.elapsed());
        self.told = lasted || logged.is_none_or(|ago| ago >= LOSS_LOG);
        if self.told {
            self.logged_at = Some(Instant::now());
            tracing::warn!(reason, "there is no stream to the balancer");
        }
    }

    /// A list came.
    pub(super) fn list(&mut self) {
        self.list_at = Some(Instant::now());
        if std::mem::take(&mut self.told) {
            tracing::info!("the balancer is back, with a list");
        }
    }
}
