//! Those who ask backends how they are: they share connections, and start together.

use std::convert::Infallible;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Parts, spawn};
use crate::catalogue::Catalogue;
use crate::discovery::file::ConfigFile;
use crate::health::{self, HealthMetrics};
use crate::load::{self, LoadMetrics};
use crate::subchannel::Subchannels;
use crate::telemetry::MetricsRegistry;

pub(super) fn spawn_all(
    parts: &mut Parts,
    catalogue: &Arc<Catalogue>,
    config_file: &ConfigFile,
    subchannels: Subchannels,
    metrics: &MetricsRegistry,
    end: &CancellationToken,
) {
    let checked = health::check(
        Arc::clone(catalogue),
        config_file.subscribe(),
        subchannels.clone(),
        metrics.register(HealthMetrics::register),
        end.clone(),
    );
    let collected = load::collect(
        Arc::clone(catalogue),
        config_file.subscribe(),
        subchannels.clone(),
        metrics.register(LoadMetrics::register),
        end.clone(),
    );
    let kept = subchannels.run(end.clone());
    spawn(parts, "the health checks", unfailing(checked));
    spawn(parts, "the collector of load reports", unfailing(collected));
    spawn(parts, "the connections to backends", unfailing(kept));
}

async fn unfailing(part: impl Future<Output = ()>) -> Result<(), Infallible> {
    part.await;
    Ok(())
}
