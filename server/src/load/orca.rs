//! One backend's ORCA stream, `xds.service.orca.v3.OpenRcaService`.

use std::time::Duration;

use lookaside_client::Channel;
use lookaside_client::backoff::jittered;
use lookaside_proto::duration;
use lookaside_proto::orca_service_v3::OrcaLoadReportRequest;
use lookaside_proto::orca_service_v3::open_rca_service_client::OpenRcaServiceClient;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};
use tracing::debug;

use super::target::LoadTarget;
use crate::subchannel::{State, Subchannel};
use lookaside_core::weights::ReportSource;

/// A report longer than this is none.
const MAX_REPORT: usize = 64 * 1024;

/// Pause after a stream that failed; grows to the second by the third.
const BACKOFF: (Duration, Duration, f64) = (Duration::from_secs(1), Duration::from_secs(30), 1.6);

/// Share of a pause by which it may be longer or shorter.
const JITTER: f64 = 0.2;

/// Servers may stretch what they are asked to this without a word; grpc-go does.
const STRETCHED: Duration = Duration::from_secs(30);

/// Between two reports that are read: one that floods waits, by HTTP/2's flow
/// control, at its own end.
const LEAST_BETWEEN: Duration = Duration::from_millis(50);

/// A stream that is silent for as many intervals is given up.
const SILENT_INTERVALS: u32 = 3;

/// How a stream ended.
enum End {
    /// The backend does not have the service.
    Unimplemented,
    /// The stream broke off.
    Broken(Status),
    /// Nothing came for too long.
    Silent(Duration),
}

/// Why a stream is no more, as far as the next one is concerned.
enum Over {
    Unimplemented,
    /// With its connection.
    Disconnected,
    /// On a connection that is there.
    Failed,
}

/// What is known of a stream's pace.
#[derive(Debug, Clone, Copy)]
struct ReportInterval {
    asked: Duration,
    /// Time between the last two reports.
    seen: Option<Duration>,
}

/// Follows a backend's reports. Ends when the backend does not have them: then for
/// as long as the state that is returned does not change.
pub(super) async fn follow(
    asking: &LoadTarget,
    interval: Duration,
    subchannel: &Subchannel,
) -> watch::Receiver<State> {
    let mut rng = fastrand::Rng::new();
    let mut states = subchannel.states();
    let (first, longest, growth) = BACKOFF;
    let mut pause = first;
    loop {
        let ready = asking.connected(&mut states).await;
        // A balancer that starts does not ask all backends at once.
        let jitter = interval.min(first).mul_f64(rng.f64());
        let mut reports = 0u64;
        let stream = async {
            sleep(jitter).await;
            let end = read(asking, interval, &mut reports, ready.channel.clone()).await;
            let (backend, reason) = (asking.backend, end.reason());
            asking.metrics.ended(reason);
            match &end {
                End::Unimplemented => {
                    debug!(%backend, "reports no load by ORCA");
                    return Over::Unimplemented;
                }
                End::Broken(status) => debug!(%backend, %status, "its load reports broke off"),
                End::Silent(after) => debug!(%backend, ?after, "its load reports ceased"),
            }
            asking.suspect();
            Over::Failed
        };
        let over = tokio::select! {
            biased;
            _ = states.changed() => Over::Disconnected,
            over = stream => over,
        };
        if reports > 0 {
            pause = first;
        }
        match over {
            Over::Unimplemented => return states,
            Over::Disconnected => {
                asking.left(&states);
                continue;
            }
            Over::Failed => {}
        }
        sleep(jittered(pause, JITTER, &mut rng)).await;
        pause = pause.mul_f64(growth).min(longest);
    }
}

async fn read(asking: &LoadTarget, interval: Duration, reports: &mut u64, channel: Channel) -> End {
    let mut client = OpenRcaServiceClient::new(channel).max_decoding_message_size(MAX_REPORT);
    let request = OrcaLoadReportRequest {
        report_interval: Some(duration::to_proto(interval)),
        request_cost_names: Vec::new(),
    };
    let mut pace = ReportInterval {
        asked: interval,
        seen: None,
    };
    let mut last = None;
    let opened = timeout(pace.patience(), client.stream_core_metrics(request)).await;
    let mut stream = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return ended(status),
        Err(_) => return End::Silent(pace.patience()),
    };
    let _open = Open::count(&asking.metrics.streams);
    loop {
        let report = match timeout(pace.patience(), stream.message()).await {
            Ok(Ok(Some(report))) => report,
            Ok(Ok(None)) => return End::Broken(Status::ok("the backend ended it")),
            Ok(Err(status)) => return ended(status),
            Err(_) => return End::Silent(pace.patience()),
        };
        let now = Instant::now();
        pace.seen = last.replace(now).map(|last| now - last);
        *reports += 1;
        asking.report(ReportSource::Orca, &report);
        sleep(LEAST_BETWEEN).await;
    }
}

fn ended(status: Status) -> End {
    if status.code() == Code::Unimplemented {
        End::Unimplemented
    } else {
        End::Broken(status)
    }
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Unimplemented => "unimplemented",
            Self::Broken(_) => "broken",
            Self::Silent(_) => "silent",
        }
    }
}

impl ReportInterval {
    /// How long nothing may come: by the interval that is seen, for servers do
    /// not always keep to what they are asked.
    fn patience(self) -> Duration {
        let interval = self.seen.unwrap_or(STRETCHED).max(self.asked);
        interval * SILENT_INTERVALS
    }
}

/// Counts a stream as open until it is dropped.
struct Open<'a>(&'a Gauge);

impl<'a> Open<'a> {
    fn count(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_three_intervals_as_they_are_seen() {
        let s = Duration::from_secs;
        let pace = |asked, seen| ReportInterval { asked, seen };
        assert_eq!(pace(s(5), None).patience(), s(90));
        assert_eq!(pace(s(5), Some(s(5))).patience(), s(15));
        assert_eq!(pace(s(5), Some(s(30))).patience(), s(90));
        assert_eq!(pace(s(60), None).patience(), s(180));
        // One that reports more often than it is asked may stop doing so.
        assert_eq!(pace(s(5), Some(s(1))).patience(), s(15));
    }
}
