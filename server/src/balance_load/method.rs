//! The method: what its streams share, and how it follows the configuration.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::admission::{Admission, StreamLimits};
use super::delivery::Deliveries;
use super::metrics::BalanceLoadMetrics;
use super::responses::Responses;
use super::throttle::Throttle;
use crate::catalogue::Catalogue;
use crate::rollout::Part;
use crate::telemetry::Seldom;

/// The `BalanceLoad` method. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct BalanceLoad(pub(super) Arc<Shared>);

/// What all streams share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) deliveries: Deliveries,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: BalanceLoadMetrics,
    pub(super) refusal_log: Seldom,
    pub(super) throttle: Throttle,
    pub(super) responses: Arc<Responses>,
}

impl BalanceLoad {
    /// The method for the services of `catalogue`. Clients are asked for their
    /// statistics every `report_interval`, at least
    /// [`MIN_REPORT_INTERVAL`](super::MIN_REPORT_INTERVAL).
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
            deliveries: Deliveries::new(limits.list_timeout),
            admission: Arc::new(Admission::new(limits)),
            metrics,
            refusal_log: Seldom::default(),
            throttle: Throttle::default(),
            responses: Arc::new(Responses::new(report_interval)),
        }))
    }

    /// Follows the configuration until `end`. The interval of client statistics counts for
    /// streams that begin later: on a stream it cannot be changed. Counters are there for
    /// every service that there is, and for no other.
    pub async fn follow(self, mut part: Part, end: CancellationToken) {
        let shared = &self.0;
        while let Some(revision) = end.run_until_cancelled(part.next()).await {
            let interval = revision.config.balancer.report_interval;
            shared.responses.ask_for_reports_every(interval);
            shared.metrics.follow(&shared.catalogue.services());
            shared.deliveries.follow_services();
            part.applied(&revision);
        }
    }

    /// Ends every stream, spread over `over`, and lets no new one in.
    pub async fn end_streams(&self, over: Duration) {
        self.0.deliveries.end_all(over).await;
    }
}
