//! `grpclb.backend.v1.LoadReport`, which backends of bsm/grpclb serve.
//!
//! Their score has no unit: with bsm's reporter it is whatever the application
//! counts (connections, calls under way), with its rate reporter calls in some time.
//! bsm's own balancer only sorts by it, least busy first. Here it is utilisation
//! once the operator says what score a fully busy backend has. There are no calls
//! per second beside it: policy `feedback` goes by utilisation alone then, and
//! `weighted_round_robin` gives everybody the same.

use std::time::Duration;

use lookaside_client::Channel;
use lookaside_client::backoff::jittered;
use lookaside_proto::bsm_v1::LoadRequest;
use lookaside_proto::bsm_v1::load_report_client::LoadReportClient;
use lookaside_proto::orca_v3::OrcaLoadReport;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tracing::debug;

use super::target::LoadTarget;
use crate::subchannel::{State, Subchannel};
use lookaside_core::weights::ReportSource;

/// An answer of one number is no longer.
const MAX_ANSWER: usize = 4096;

/// A backend answers in less, unless it is asked more often.
const PATIENCE: Duration = Duration::from_secs(2);

/// Share of an interval by which it may be longer or shorter.
const JITTER: f64 = 0.1;

/// Polls a backend. Ends when the backend cannot be polled: then for as long as the
/// state that is returned does not change.
pub(super) async fn poll(
    asking: &LoadTarget,
    interval: Duration,
    capacity: f64,
    subchannel: &Subchannel,
) -> watch::Receiver<State> {
    let mut states = subchannel.states();
    loop {
        let ready = asking.connected(&mut states).await;
        tokio::select! {
            biased;
            _ = states.changed() => asking.left(&states),
            () = poll_on(asking, interval, capacity, ready.channel) => return states,
        }
    }
}

/// Over one connection, until what serves it turns out not to have the method.
async fn poll_on(asking: &LoadTarget, interval: Duration, capacity: f64, channel: Channel) {
    let mut rng = fastrand::Rng::new();
    let mut client = LoadReportClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    // A balancer that starts does not ask all backends at once.
    sleep(interval.min(Duration::from_secs(1)).mul_f64(rng.f64())).await;
    loop {
        match timeout(PATIENCE.min(interval), client.load(LoadRequest {})).await {
            Ok(Ok(answer)) => {
                asking.metrics.polled("load_report", "answered");
                let report = OrcaLoadReport {
                    application_utilization: answer.into_inner().score as f64 / capacity,
                    ..OrcaLoadReport::default()
                };
                asking.report(ReportSource::LoadReport, &report);
            }
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                asking.metrics.polled("load_report", "unimplemented");
                debug!(backend = %asking.backend, "has no grpclb.backend.v1.LoadReport");
                return;
            }
            Ok(Err(status)) => {
                asking.metrics.polled("load_report", "failed");
                debug!(backend = %asking.backend, %status, "does not say how busy it is");
            }
            Err(_) => asking.metrics.polled("load_report", "timeout"),
        }
        sleep(jittered(interval, JITTER, &mut rng)).await;
    }
}
