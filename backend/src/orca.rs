//! ORCA's reports out of band: `xds.service.orca.v3.OpenRcaService`.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, stream};
use lookaside_client::backoff::jittered;
use lookaside_proto::duration;
use lookaside_proto::orca_service_v3::OrcaLoadReportRequest;
use lookaside_proto::orca_service_v3::open_rca_service_server::OpenRcaService;
use lookaside_proto::orca_v3::OrcaLoadReport;
use tokio::time::sleep;
use tonic::{Request, Response, Status};

use crate::load::{Load, Window};

/// Share of the interval by which a report may come sooner or later, so that
/// backends that were asked together do not answer together for ever.
const JITTER: f64 = 0.1;

/// No interval is longer, whatever is asked.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// The service behind [`Load::orca`].
///
/// A stream gets one report at once, then one every interval that its request
/// asks for, ±10 %, and no shorter than
/// [`LoadBuilder::min_interval`](crate::LoadBuilder::min_interval), nor longer
/// than an hour. Each is of the time since the one before, so the streams of
/// several balancers do not disturb each other. [`Load::close`] ends them.
#[derive(Debug, Clone)]
pub struct Orca {
    load: Load,
    min_interval: Duration,
}

impl Orca {
    pub(crate) fn new(load: Load, min_interval: Duration) -> Self {
        Self { load, min_interval }
    }

    /// The interval for a stream that asks for `asked`; the shortest where it
    /// does not say.
    fn interval(&self, asked: Option<&prost_types::Duration>) -> Duration {
        let asked = asked.and_then(duration::from_proto).unwrap_or_default();
        asked.min(MAX_INTERVAL).max(self.min_interval)
    }
}

/// A stream of reports.
struct Reports {
    load: Load,
    window: Window,
    interval: Duration,
    rng: fastrand::Rng,
    state: State,
}

enum State {
    First,
    Next,
    Ended,
}

#[tonic::async_trait]
impl OpenRcaService for Orca {
    type StreamCoreMetricsStream =
        Pin<Box<dyn Stream<Item = Result<OrcaLoadReport, Status>> + Send + 'static>>;

    async fn stream_core_metrics(
        &self,
        request: Request<OrcaLoadReportRequest>,
    ) -> Result<Response<Self::StreamCoreMetricsStream>, Status> {
        let reports = Reports {
            load: self.load.clone(),
            window: self.load.window(),
            interval: self.interval(request.get_ref().report_interval.as_ref()),
            rng: fastrand::Rng::new(),
            state: State::First,
        };
        Ok(Response::new(Box::pin(stream::unfold(
            reports,
            Reports::next,
        ))))
    }
}

impl Reports {
    async fn next(mut self) -> Option<(Result<OrcaLoadReport, Status>, Self)> {
        match self.state {
            State::First => {
                self.state = State::Next;
                let report = self.load.recent();
                Some((Ok(report.to_orca()), self))
            }
            State::Next => {
                let pause = jittered(self.interval, JITTER, &mut self.rng);
                let closed = self.load.closed();
                let open = closed.run_until_cancelled(sleep(pause)).await.is_some();
                if !open {
                    self.state = State::Ended;
                    let status = Status::unavailable("this backend is about to go");
                    return Some((Err(status), self));
                }
                let report = self.load.report(&mut self.window);
                Some((Ok(report.to_orca()), self))
            }
            State::Ended => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::Utilization;

    proptest! {
        #[test]
        fn whatever_is_asked_the_interval_is_neither_short_nor_endless(
            seconds: i64, nanos: i32, least in 1u64..60,
        ) {
            let load = Load::new(Utilization::Set);
            let orca = Orca::new(load, Duration::from_secs(least));
            let asked = prost_types::Duration { seconds, nanos };
            let interval = orca.interval(Some(&asked));
            prop_assert!(interval >= Duration::from_secs(least));
            prop_assert!(interval <= MAX_INTERVAL);
        }
    }
}
