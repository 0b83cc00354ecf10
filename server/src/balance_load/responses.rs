//! What all streams send alike, framed once, and where their lists begin.

use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::{FallbackResponse, InitialLoadBalanceResponse, LoadBalanceResponse};
use lookaside_proto::{duration, frame};

/// The shortest interval of client statistics that is asked for: C-core does
/// not report more often, whatever it is told.
pub const MIN_REPORT_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Responses {
    initial: ArcSwap<Bytes>,
    fallback: Bytes,
    phase: u64,
}

impl Responses {
    /// Clients are asked for their statistics every `report_interval`, at least
    /// [`MIN_REPORT_INTERVAL`].
    pub(super) fn new(report_interval: Duration) -> Self {
        Self {
            initial: ArcSwap::from_pointee(initial_response(report_interval)),
            fallback: response(LoadBalanceResponseType::FallbackResponse(
                FallbackResponse {},
            )),
            phase: fastrand::u64(..),
        }
    }

    /// Asks the clients of streams that begin from now on.
    pub(super) fn ask_for_reports_every(&self, interval: Duration) {
        self.initial.store(initial_response(interval).into());
    }

    /// `initial_response`.
    pub(super) fn initial(&self) -> Bytes {
        Bytes::clone(&self.initial.load())
    }

    /// `fallback_response`.
    pub(super) fn fallback(&self) -> Bytes {
        self.fallback.clone()
    }

    /// Moves the rotations of this process, so that two replicas do not start
    /// their clients at the same entries.
    pub(super) fn phase(&self) -> u64 {
        self.phase
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
