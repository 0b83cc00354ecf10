//! What an operator says of a service's weights.

use std::time::Duration;

use super::policy::PolicyChoice;
use super::signals::ReportSettings;

/// Slow start with `feedback`, unless the operator says otherwise: the policy
/// measures a newcomer before it trusts it.
const FEEDBACK_SLOW_START: Duration = Duration::from_secs(30);

/// How a service's backends are weighed.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightSettings {
    /// The policy whose weights are published.
    pub policy: PolicyChoice,
    /// A policy whose weights are computed and shown, but not published. It
    /// goes on from what it learned when it becomes the policy.
    pub shadow: Option<PolicyChoice>,
    /// How much of the policy's weights is published, above 0 and at most 1; the
    /// rest is as if there was no policy. For a migration in steps.
    pub blend: f64,
    /// How long a backend that comes is given less than its share; zero for not
    /// at all. `None`: 30 s with `feedback`, else not at all.
    pub slow_start: Option<Duration>,
    /// Whether backends that fail are taken out for a while. `None`: with
    /// `feedback`, and else not.
    pub ejection: Option<bool>,
    /// How backends report.
    pub reports: ReportSettings,
    /// Metrics of a report that count as load, if it has any of them.
    pub metrics: Vec<String>,
}

impl Default for WeightSettings {
    fn default() -> Self {
        Self {
            policy: PolicyChoice::STATIC,
            shadow: None,
            blend: 1.0,
            slow_start: None,
            ejection: None,
            reports: ReportSettings::default(),
            metrics: Vec::new(),
        }
    }
}

impl WeightSettings {
    /// How long slow start takes; zero for none.
    #[must_use]
    pub fn slow_start(&self) -> Duration {
        let usual = if self.is_feedback() {
            FEEDBACK_SLOW_START
        } else {
            Duration::ZERO
        };
        self.slow_start.unwrap_or(usual)
    }

    /// Whether backends that fail are taken out.
    #[must_use]
    pub fn ejects(&self) -> bool {
        self.ejection.unwrap_or_else(|| self.is_feedback())
    }

    /// Whether any of its policies learns from reports.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.policy != PolicyChoice::STATIC || self.shadow.is_some()
    }

    fn is_feedback(&self) -> bool {
        self.policy == PolicyChoice::FEEDBACK
    }
}
