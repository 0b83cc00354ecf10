//! What the checks of all kinds have in common.

use std::sync::Arc;
use std::time::Duration;

use lookaside_client::backoff::jittered;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::findings::Findings;
use super::metrics::HealthMetrics;
use super::pace::ProbePace;
use super::tracker::{Finding, HealthTracker};
use crate::config::HealthConfig;

/// Share of an interval by which it may be longer or shorter.
const JITTER: f64 = 0.1;

/// One backend's check.
pub(super) struct Probing {
    pub(super) kind: &'static str,
    pub(super) config: Arc<HealthConfig>,
    pub(super) findings: Arc<Findings>,
    /// There is a reason to look now.
    pub(super) suspected: Arc<Notify>,
    pub(super) metrics: HealthMetrics,
    pub(super) pace: Arc<ProbePace>,
    judge: HealthTracker,
    rng: fastrand::Rng,
}

impl Probing {
    pub(super) fn new(
        kind: &'static str,
        config: Arc<HealthConfig>,
        findings: Arc<Findings>,
        suspected: Arc<Notify>,
        metrics: HealthMetrics,
        pace: Arc<ProbePace>,
    ) -> Self {
        Self {
            kind,
            judge: HealthTracker::new(config.unhealthy_threshold, config.healthy_threshold),
            config,
            findings,
            suspected,
            metrics,
            pace,
            rng: fastrand::Rng::new(),
        }
    }

    /// Something was found; `why` says more where there is more to say.
    pub(super) fn found(&mut self, found: Finding, why: &str) {
        self.metrics.found(self.kind, found);
        if found == Finding::Late {
            self.pace.late();
        }
        let verdict = self.judge.found(found);
        self.findings.tell(verdict, why);
    }

    /// Whether it is thought to be well, or nothing is known against it.
    pub(super) fn is_in(&self) -> bool {
        use lookaside_core::plan::Probe::{Good, Unknown};
        matches!(self.judge.verdict().probe, Good | Unknown)
    }

    /// How often to look.
    pub(super) fn interval(&self) -> Duration {
        self.pace.interval(self.config.interval)
    }

    /// The same, a little longer or shorter.
    pub(super) fn pause(&mut self) -> Duration {
        jittered(self.interval(), JITTER, &mut self.rng)
    }

    /// A moment in an interval: those that begin together do not go on together.
    pub(super) fn first_pause(&mut self) -> Duration {
        self.interval().mul_f64(self.rng.f64())
    }

    /// Waits for `pause`, or until there is a reason to look now.
    pub(super) async fn rest(&mut self, pause: Duration) {
        if timeout(pause, self.suspected.notified()).await.is_ok() {
            self.found(Finding::Doubt, "");
            // However often somebody is suspected.
            sleep(LEAST_REST).await;
        }
    }
}

/// Between two looks at a suspect.
const LEAST_REST: Duration = Duration::from_millis(20);
