//! `grpc.lb.v1.LoadBalancer/BalanceLoad`: the streams that clients follow.
//!
//! ```text
//!  request ─► checks ─► initial_request ─► service ready ─► subscribed
//!     └──────────┴─────────────┴──────────────────┴─► an error, before anything else
//!  subscribed ─► initial_response ─► list ─► list ─► …        ◄─ client stats
//! ```
//!
//! What is refused is refused *before* `initial_response`: only then clients
//! back off. After it they come back at once, 1500 times a second each, so a
//! stream is never ended without need.
//!
//! The method is a plain HTTP service, not a generated one: its lists are bytes
//! that all streams share, and tonic's codec would copy them into a buffer of
//! each stream. There is no task and no queue per stream either. A stream is a
//! response body that looks at the newest list when HTTP/2 asks it for more, so
//! a slow client gets the message it has begun and then the newest one.

mod admission;
mod body;
mod delivery;
mod dispatch;
mod grpc_message;
mod handshake;
mod metrics;
mod pace;
mod refusal;
mod request;
mod side;
mod stats;
mod stream;
mod throttle;

#[cfg(test)]
mod tests;

pub use admission::StreamLimits;
pub use body::{Body, Data};
pub use dispatch::{Dispatch, ResponseFuture};
pub use metrics::BalanceLoadMetrics;
pub use request::{Encoding, MAX_ENTRIES, MAX_REQUEST, Malformed, Message, RequestReader};

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::{FallbackResponse, InitialLoadBalanceResponse, LoadBalanceResponse};
use lookaside_proto::{duration, frame};
use tokio_util::sync::CancellationToken;

use crate::catalogue::Catalogue;
use crate::rollout::Part;
use crate::telemetry::Seldom;
use admission::Admission;
use delivery::Deliveries;
use throttle::Throttle;

/// The shortest interval of client statistics that is asked for: C-core does
/// not report more often, whatever it is told.
pub const MIN_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The `BalanceLoad` method. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct BalanceLoad(Arc<Shared>);

/// What all streams share.
#[derive(Debug)]
struct Shared {
    catalogue: Arc<Catalogue>,
    deliveries: Deliveries,
    admission: Admission,
    metrics: BalanceLoadMetrics,
    refusal_log: Seldom,
    throttle: Throttle,
    /// `initial_response`, framed.
    initial_response: ArcSwap<Bytes>,
    /// `fallback_response`, framed.
    fallback_response: Bytes,
    /// Moves the rotations of this process, so that two replicas do not start
    /// their clients at the same entries.
    phase: u64,
}

impl BalanceLoad {
    /// The method for the services of `catalogue`. Clients are asked for their
    /// statistics every `report_interval`, at least [`MIN_REPORT_INTERVAL`].
    #[must_use]
    pub fn new(
        catalogue: Arc<Catalogue>,
        report_interval: Duration,
        limits: StreamLimits,
        metrics: BalanceLoadMetrics,
    ) -> Self {
        metrics.follow(&catalogue.services());
        Self(Arc::new(Shared {
            catalogue,
            deliveries: Deliveries::default(),
            admission: Admission::new(limits),
            metrics,
            refusal_log: Seldom::default(),
            throttle: Throttle::default(),
            initial_response: ArcSwap::from_pointee(initial_response(report_interval)),
            fallback_response: response(LoadBalanceResponseType::FallbackResponse(
                FallbackResponse {},
            )),
            phase: fastrand::u64(..),
        }))
    }

    /// Follows the configuration until `end`. The interval of client statistics counts for
    /// streams that begin later: on a stream it cannot be changed. Counters are there for
    /// every service that there is, and for no other.
    pub async fn follow(self, mut part: Part, end: CancellationToken) {
        while let Some(revision) = end.run_until_cancelled(part.next()).await {
            self.ask_for_reports_every(revision.config.balancer.report_interval);
            self.0.metrics.follow(&self.0.catalogue.services());
            self.0.deliveries.follow_services();
            part.applied(&revision);
        }
    }

    fn ask_for_reports_every(&self, interval: Duration) {
        let initial_response = initial_response(interval);
        self.0.initial_response.store(Arc::new(initial_response));
    }

    /// Ends every stream, spread over `over`, and lets no new one in.
    pub async fn end_streams(&self, over: Duration) {
        self.0.deliveries.end_all(over).await;
    }
}

fn initial_response(report_interval: Duration) -> Bytes {
    let interval = report_interval.max(MIN_REPORT_INTERVAL);
    let client_stats_report_interval = Some(duration::to_proto(interval));
    response(LoadBalanceResponseType::InitialResponse(
        InitialLoadBalanceResponse {
            client_stats_report_interval,
        },
    ))
}

fn response(response: LoadBalanceResponseType) -> Bytes {
    frame::encode(&LoadBalanceResponse {
        load_balance_response_type: Some(response),
    })
}
