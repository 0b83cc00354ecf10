//! When a stream's statistics are reported.

use std::time::{Duration, SystemTime};

use lookaside_proto::lb_v1::LoadBalanceRequest;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType as Request;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::stats::{StreamStats, is_zero};
use super::stream::message;
use crate::until::until;

/// Shortest interval of reports, whatever the balancer asks for.
const MIN_REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// When to report, and whether there is anything to say.
#[derive(Default)]
pub(super) struct Reports {
    interval: Duration,
    next: Option<Instant>,
    /// Whether the last report said that nothing happened.
    quiet: bool,
}

impl Reports {
    /// Reports every `interval` from now on; never if it is zero or absent.
    pub(super) fn start(&mut self, interval: Option<Duration>) {
        if let Some(interval) = interval.filter(|interval| !interval.is_zero()) {
            self.interval = interval.max(MIN_REPORT_INTERVAL);
            self.next = Some(Instant::now() + self.interval);
        }
    }

    pub(super) async fn due(&self) {
        until(self.next).await;
    }

    pub(super) fn send(
        &mut self,
        stats: &StreamStats,
        requests: &mpsc::Sender<LoadBalanceRequest>,
    ) {
        self.next = Some(Instant::now() + self.interval);
        // If the last report is still here, the counts wait for the next turn.
        let Ok(place) = requests.try_reserve() else {
            return;
        };
        let report = stats.take(SystemTime::now());
        let zero = is_zero(&report);
        if !(zero && self.quiet) {
            place.send(message(Request::ClientStats(report)));
        }
        self.quiet = zero;
    }
}
