//! What becomes of a text that was read: it is applied, refused, or held back
//! until it was read again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::apply::apply_change;
use super::applying::Applying;
use super::metrics::{ConfigMetrics, ReloadResult};
use super::read::Content;
use crate::catalogue::Catalogue;
use crate::config::{self, Allowed, Changes, Config, Outcome, Refusal, Running};
use crate::rollout::Rollout;
use lookaside_core::model::ServiceName;
use lookaside_core::plan::SourceKind;

/// A file that lacks most services is applied if it says the same this much later.
pub(super) const HOLD: Duration = Duration::from_secs(30);

/// Decides about what the file says, and puts it into the catalogue.
#[derive(Debug)]
pub(super) struct Decider {
    file: String,
    pub(super) allow_empty: bool,
    pub(super) hold: Duration,
    pub(super) rollout: Rollout,
    restart: Vec<&'static str>,
    standing: Standing,
}

/// How the file that was read last stands to what is in force.
#[derive(Debug)]
enum Standing {
    /// It is in force.
    InForce,
    /// It is not, and stays out until it changes.
    Refused,
    /// It would empty these services; it is looked at again when others than the
    /// file list backends for all of them.
    Emptying(Vec<ServiceName>),
    /// It lacks most services, and is applied if it still says so then.
    Held { text: String, until: Instant },
}

/// A text, what it means, and what else is to be said of it.
#[derive(Debug)]
pub(super) struct Judgment {
    text: String,
    outcome: Outcome,
    warnings: Vec<String>,
}

impl Judgment {
    /// Whether what is in force would stay.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.outcome, Outcome::Refused(_))
    }
}

impl Decider {
    pub(super) fn new(file: String, config: Config) -> Self {
        Self {
            file,
            allow_empty: false,
            hold: HOLD,
            rollout: Rollout::new(config),
            restart: Vec::new(),
            standing: Standing::InForce,
        }
    }

    /// When the file is to be read again though nobody asks.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.standing {
            Standing::Held { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Whether the file is to be read again now though it did not change.
    pub(super) fn is_due(&self, catalogue: &Catalogue) -> bool {
        match &self.standing {
            Standing::InForce | Standing::Refused => false,
            Standing::Held { until, .. } => *until <= Instant::now(),
            Standing::Emptying(services) => {
                let elsewhere = elsewhere(catalogue);
                services.iter().all(|name| elsewhere.contains(name))
            }
        }
    }

    /// What the content means for what is in force. A text of a hundred thousand
    /// backends is read on a thread that streams do not wait for.
    pub(super) async fn judge(
        &self,
        content: Content,
        catalogue: &Catalogue,
    ) -> Result<Judgment, JoinError> {
        let text = match content {
            Ok(text) => text,
            Err(errors) => {
                return Ok(Judgment {
                    text: String::new(),
                    outcome: Outcome::Refused(errors.into()),
                    warnings: Vec::new(),
                });
            }
        };
        let allowed = match &self.standing {
            _ if self.allow_empty => Allowed::Everything,
            Standing::Held { text: held, until } if *held == text && *until <= Instant::now() => {
                Allowed::MostServices
            }
            _ => Allowed::Some,
        };
        let running = self.rollout.config();
        let (file, elsewhere) = (self.file.clone(), elsewhere(catalogue));
        spawn_blocking(move || {
            let config = &running;
            let elsewhere = &elsewhere;
            let outcome = config::reload(Running { config, elsewhere }, &text, &file, allowed);
            let warnings = new_warnings(&running, &outcome);
            Judgment {
                text,
                outcome,
                warnings,
            }
        })
        .await
    }

    /// Does what was judged, and says so; of a configuration that is applied, the caller
    /// does, once all parts of the balancer have it.
    pub(super) fn decide(
        &mut self,
        judged: Judgment,
        catalogue: &Catalogue,
        metrics: &ConfigMetrics,
    ) -> Option<Applying> {
        let Judgment {
            text,
            outcome,
            warnings,
        } = judged;
        let mut applying = None;
        let restart = match outcome {
            Outcome::Refused(refusal @ Refusal::MostServices { .. }) => {
                self.hold(&refusal, text, metrics);
                return None;
            }
            Outcome::Refused(refusal) => {
                let standing = match &refusal {
                    Refusal::NoBackends { services, .. } => Standing::Emptying(services.clone()),
                    _ => Standing::Refused,
                };
                self.refuse(&refusal, standing, metrics);
                return None;
            }
            Outcome::Unchanged { restart } => {
                let file = &self.file;
                if matches!(self.standing, Standing::InForce) {
                    info!(file, "configuration unchanged");
                } else {
                    info!(file, "configuration valid again, and unchanged");
                }
                metrics.ended(ReloadResult::Unchanged);
                restart
            }
            Outcome::Applied {
                config,
                changes,
                restart,
            } => {
                applying = Some(self.apply(*config, changes, catalogue));
                for warning in warnings {
                    warn!(file = self.file, "{warning}");
                }
                metrics.ended(ReloadResult::Applied);
                restart
            }
        };
        self.standing = Standing::InForce;
        if restart != self.restart && !restart.is_empty() {
            let keys = restart.join(", ");
            warn!(
                file = self.file,
                keys, "these keys are applied by a restart only"
            );
        }
        metrics.restart_required(!restart.is_empty());
        self.restart = restart;
        applying
    }

    fn apply(&self, config: Config, changes: Changes, catalogue: &Catalogue) -> Applying {
        let file = &self.file;
        match &self.standing {
            Standing::InForce => {}
            Standing::Held { .. } => {
                warn!(
                    file,
                    "the file has lacked most services for {:?}", self.hold
                );
            }
            Standing::Refused | Standing::Emptying(_) => info!(file, "configuration valid again"),
        }
        let running = self.rollout.config();
        apply_change(&running, &config, catalogue);
        let revision = self.rollout.current().number + 1;
        let applying = Applying::new(file, revision, &config, changes);
        // The services are there before any part hears of them.
        self.rollout.replace(config);
        applying
    }

    fn refuse(&mut self, refusal: &Refusal, standing: Standing, metrics: &ConfigMetrics) {
        metrics.ended(ReloadResult::Refused);
        // A line of the log has no newline in it.
        for fault in refusal.to_string().lines() {
            error!("configuration not applied, the one in force stays: {fault}");
        }
        self.standing = standing;
    }

    /// The same text keeps the time it has, however often it is read.
    fn hold(&mut self, refusal: &Refusal, text: String, metrics: &ConfigMetrics) {
        metrics.ended(ReloadResult::Held);
        let until = match &self.standing {
            Standing::Held { text: held, until } if *held == text => *until,
            _ => Instant::now() + self.hold,
        };
        let left = until.saturating_duration_since(Instant::now());
        warn!(
            "configuration held back: {refusal}. It is read again in {left:.1?}, and applied if \
             it says the same; to keep the services, put them back into the file before; to \
             apply it at once, run `lookaside serve --allow-empty`"
        );
        self.standing = Standing::Held { text, until };
    }
}

/// Services of which others than the file list backends.
fn elsewhere(catalogue: &Catalogue) -> BTreeSet<ServiceName> {
    let services = catalogue.services();
    let elsewhere = services.iter().filter(|service| {
        let mut contributors = service.contributors().into_iter();
        contributors.any(|source| source.kind != SourceKind::File)
    });
    elsewhere.map(|service| service.name().clone()).collect()
}

/// What is to be said of a configuration, and was not said of the one before.
fn new_warnings(running: &Config, outcome: &Outcome) -> Vec<String> {
    let Outcome::Applied { config, .. } = outcome else {
        return Vec::new();
    };
    let known = config::warnings(running);
    let mut warnings = config::warnings(config);
    warnings.retain(|warning| !known.contains(warning));
    warnings
}
