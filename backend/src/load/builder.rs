//! Choices about what is counted and how it is told.

use std::time::Duration;

use tonic::Code;

use super::{Load, Settings, Trailers, Utilization};

/// Services of gRPC itself: they say nothing about load, and some of their calls
/// last as long as the connection.
const UNCOUNTED: [&str; 5] = [
    "/grpc.channelz.",
    "/grpc.health.",
    "/grpc.reflection.",
    "/grpclb.backend.v1.",
    "/xds.service.orca.",
];

/// ORCA streams are reported to no more often than this, whatever is asked.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Makes a [`Load`] with what you choose; the rest is as said at each method.
#[derive(Debug, Clone)]
pub struct LoadBuilder(Settings);

impl LoadBuilder {
    pub(super) fn new(utilization: Utilization) -> Self {
        Self(Settings {
            utilization,
            is_error,
            uncounted: UNCOUNTED.map(str::to_owned).to_vec(),
            trailers: Trailers::default(),
            min_interval: MIN_INTERVAL,
        })
    }

    /// Which codes are errors, instead of [`is_error`].
    #[must_use]
    pub fn errors(mut self, is_error: fn(Code) -> bool) -> Self {
        self.0.is_error = is_error;
        self
    }

    /// Does not count calls whose path begins like this (`/my.Admin/`), beside
    /// those to gRPC's own services (health, reflection, channelz, ORCA).
    #[must_use]
    pub fn uncounted(mut self, prefix: impl Into<String>) -> Self {
        self.0.uncounted.push(prefix.into());
        self
    }

    /// When trailers carry a report; if the call asks for it, unless you say.
    #[must_use]
    pub fn trailers(mut self, trailers: Trailers) -> Self {
        self.0.trailers = trailers;
        self
    }

    /// The shortest interval of [`Load::orca`]'s reports, 1 s unless you say.
    /// Whoever asks for less gets this, as in the other implementations (where
    /// it is 30 s unless the application says so).
    #[must_use]
    pub fn min_interval(mut self, interval: Duration) -> Self {
        self.0.min_interval = interval;
        self
    }

    /// Counts from now on.
    #[must_use]
    pub fn build(self) -> Load {
        Load::from_settings(self.0)
    }
}

/// Whether a call that ended with this code counts as an error of the backend:
/// one that another backend might have spared the caller.
///
/// `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `UNIMPLEMENTED`,
/// `INTERNAL`, `UNAVAILABLE` and `DATA_LOSS` do. The others are about the
/// request (`INVALID_ARGUMENT`, `NOT_FOUND`, `PERMISSION_DENIED`, …) or the
/// caller (`CANCELLED`), and would be the same anywhere. `RESOURCE_EXHAUSTED` is
/// in because a backend that sheds calls is quick, looks idle, and would be sent
/// more of them.
///
/// Two more things count: a response that breaks off without a status, and a
/// call that is taken back at or after its deadline (to a server, that is how a
/// deadline looks).
#[must_use]
pub fn is_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
