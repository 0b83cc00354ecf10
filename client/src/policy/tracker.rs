//! How RPCs end, for policies that learn from it.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use lookaside_proto::orca_v3::{ENDPOINT_LOAD_METRICS_KEY, OrcaLoadReport};
use prost::Message as _;
use tonic::Code;

/// Follows RPCs from pick to end.
///
/// This one keeps how busy the backend said it was with its last answer (ORCA):
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// use lookaside_client::policy::{CallEnd, CallTracker};
///
/// #[derive(Debug, Default)]
/// struct Utilization(AtomicU64);
///
/// impl CallTracker for Utilization {
///     fn started(&self) {}
///
///     fn finished(&self, end: CallEnd<'_>) {
///         if let Some(report) = end.load_report() {
///             self.0.store(report.application_utilization.to_bits(), Relaxed);
///         }
///     }
/// }
///
/// // As a test of it: a backend that is half busy.
/// # use lookaside_proto::orca_v3::OrcaLoadReport;
/// use tonic::metadata::{MetadataMap, MetadataValue};
/// # use prost::Message as _;
///
/// let report = OrcaLoadReport { application_utilization: 0.5, ..Default::default() };
/// let mut trailers = MetadataMap::new();
/// let report = MetadataValue::from_bytes(&report.encode_to_vec());
/// trailers.insert_bin("endpoint-load-metrics-bin", report);
/// let trailers = trailers.into_headers();
///
/// let mut end = CallEnd::cancelled();
/// end.trailers = Some(&trailers);
/// let utilization = Utilization::default();
/// utilization.finished(end);
/// assert_eq!(f64::from_bits(utilization.0.load(Relaxed)), 0.5);
/// ```
pub trait CallTracker: Send + Sync + fmt::Debug {
    /// The RPC was given a connection.
    fn started(&self);
    /// It has ended. Called once for every [`CallTracker::started`]. Must not block.
    fn finished(&self, end: CallEnd<'_>);
    /// Whether [`CallEnd::elapsed`] is wanted, which costs each RPC two looks at the
    /// clock. Default false.
    fn timed(&self) -> bool {
        false
    }
}

/// How one sending of an RPC ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallEnd<'a> {
    /// Whether it left this process.
    pub sent: bool,
    /// Whether the server answered, with anything.
    pub received: bool,
    /// The gRPC code: the server's, or this channel's if the connection was lost
    /// or the deadline over. CANCELLED if the application let go of it.
    pub code: Code,
    /// What the server sent with its code: trailers, or the headers of a response that
    /// has nothing else. [`CallEnd::load_report`] reads the load report in there.
    pub trailers: Option<&'a HeaderMap>,
    /// From the pick to the end; zero unless [`CallTracker::timed`].
    pub elapsed: Duration,
}

impl CallEnd<'_> {
    /// Of an RPC that has not left and was let go, for a test of a tracker.
    #[must_use]
    pub fn cancelled() -> Self {
        Self {
            sent: false,
            received: false,
            code: Code::Cancelled,
            trailers: None,
            elapsed: Duration::ZERO,
        }
    }

    /// The load report of the backend that the call carried, if it did: ORCA's
    /// `endpoint-load-metrics-bin` among the trailers.
    #[must_use]
    pub fn load_report(&self) -> Option<OrcaLoadReport> {
        let report = self.binary(ENDPOINT_LOAD_METRICS_KEY)?;
        // What is not a report is none.
        OrcaLoadReport::decode(&report[..]).ok()
    }

    /// The binary trailer `name` (which ends with `-bin`), decoded; `None` if there is none, or
    /// if it is not valid Base64. Of several the first.
    #[must_use]
    pub fn binary(&self, name: &str) -> Option<Vec<u8>> {
        let value = self.trailers?.get(name)?;
        // gRPC takes it with padding and without.
        BASE64.decode(value.as_bytes()).ok()
    }
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn report(value: &'static str) -> Option<OrcaLoadReport> {
        let mut trailers = HeaderMap::new();
        trailers.insert(ENDPOINT_LOAD_METRICS_KEY, value.parse().unwrap());
        let end = CallEnd {
            trailers: Some(&trailers),
            ..CallEnd::cancelled()
        };
        end.load_report()
    }

    #[test]
    fn a_load_report_is_read_with_padding_and_without() {
        // Field 1, a double: cpu_utilization 0.5.
        for text in [
            "CQAAAAAAAOA/",
            "CQAAAAAAAOA/EQAAAAAAAAAA",
            "CQAAAAAAAOA/GAA=",
            "CQAAAAAAAOA/GAA",
        ] {
            assert_eq!(
                report(text).map(|report| report.cpu_utilization),
                Some(0.5),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_a_report_is_none() {
        for text in ["", "!", "CQ", "/////w"] {
            let report = report(text);
            assert!(
                report.is_none_or(|report| report == OrcaLoadReport::default()),
                "{text}"
            );
        }
        assert_eq!(CallEnd::cancelled().load_report(), None);
    }
}
