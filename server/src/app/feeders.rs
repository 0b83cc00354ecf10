//! What the balancer learns from: the configuration file, the backends, and what it
//! remembered.

use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::signal::unix::Signal;

use super::Tokens;
use super::parts::Parts;
use crate::catalogue::Catalogue;
use crate::discovery::file::{ConfigFile, ConfigMetrics};
use crate::health::{self, HealthMetrics};
use crate::load::{self, LoadMetrics};
use crate::state::{StateFile, StateMetrics};
use crate::subchannel::Subchannels;
use crate::telemetry::MetricsRegistry;

/// What feeders are made of.
pub(super) struct Feeders {
    pub(super) config_file: ConfigFile,
    pub(super) hangup: Option<Signal>,
    pub(super) state: Option<StateFile>,
    pub(super) subchannels: Subchannels,
}

impl Feeders {
    pub(super) fn spawn(
        self,
        parts: &mut Parts,
        catalogue: &Arc<Catalogue>,
        metrics: &MetricsRegistry,
        tokens: &Tokens,
    ) {
        let Tokens { draining, end, .. } = tokens;
        let rollout = self.config_file.rollout();
        let checked = health::check(
            Arc::clone(catalogue),
            rollout.part("health checks"),
            self.subchannels.clone(),
            metrics.register(HealthMetrics::register),
            end.clone(),
        );
        parts.spawn_unfailing("the health checks", checked);
        let collected = load::collect(
            Arc::clone(catalogue),
            rollout.part("load reports"),
            self.subchannels.clone(),
            metrics.register(LoadMetrics::register),
            end.clone(),
        );
        parts.spawn_unfailing("the collector of load reports", collected);
        let kept = self.subchannels.run(end.clone());
        parts.spawn_unfailing("the connections to backends", kept);
        if let Some(state) = self.state {
            let metrics = metrics.register(StateMetrics::register);
            let kept = state.keep(
                Arc::clone(catalogue),
                metrics,
                draining.clone(),
                end.clone(),
            );
            parts.spawn_unfailing("the keeper of state", kept);
        }
        let watched = self.config_file.run(
            Arc::clone(catalogue),
            hangups(self.hangup),
            end.clone(),
            metrics.register(ConfigMetrics::register),
        );
        parts.spawn("the configuration watcher", watched);
    }
}

/// SIGHUPs as a stream; none if they are not followed.
fn hangups(hangup: Option<Signal>) -> impl Stream<Item = ()> + Send {
    match hangup {
        Some(signal) => stream::unfold(signal, async |mut signal| {
            signal.recv().await?;
            Some(((), signal))
        })
        .boxed(),
        None => stream::pending().boxed(),
    }
}
