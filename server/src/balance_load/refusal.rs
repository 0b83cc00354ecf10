//! What is said to a client that gets no stream.

use std::time::Duration;

use http::header::{ALLOW, HeaderValue};
use http::{Response, StatusCode};
use lookaside_proto::frame::FrameError;
use tonic::{Code, Status};

use super::admission::Full;
use super::delivery::EndReason;
use super::request::{Encoding, Malformed};
use lookaside_core::model::{BadServiceName, RequestedName};

/// Why a request becomes no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("BalanceLoad takes POST")]
    Method,
    #[error("BalanceLoad takes content-type application/grpc")]
    ContentType,
    /// With what it says, as far as it can be quoted.
    #[error(
        "grpc-encoding `{0}` is not supported; this balancer takes {accepted}",
        accepted = Encoding::ACCEPTED
    )]
    Encoding(String),
    #[error("the balancer has as many streams as it may; try another one, or later")]
    Overloaded,
    #[error(
        "this client's address has {0} streams of this kind, as many as one address may; use one channel for many calls"
    )]
    PeerOverLimit(usize),
    #[error(
        "no initial_request within {0:?}; it must be the first message of a BalanceLoad stream"
    )]
    NoInitialRequest(Duration),
    #[error("the request ended without an initial_request")]
    Ended,
    #[error("client_stats came before initial_request, which must be the first message")]
    StatsFirst,
    #[error("{0}; the first message must be an initial_request")]
    Malformed(Malformed),
    #[error("{0}")]
    Framing(FrameError),
    #[error("{0}; initial_request.name must be the name of a service, as greeter.example.com")]
    Name(BadServiceName),
    #[error(
        "no service `{0}` is configured on this balancer; add it to lookaside.toml as a [[service]] or one of its aliases, or correct the client's target (a port does not matter)"
    )]
    Unknown(RequestedName),
    #[error("the balancer does not know the backends of `{0}` yet; try again")]
    NotReady(RequestedName),
    #[error("service `{0}` was just removed from this balancer")]
    Removed(RequestedName),
    #[error("the balancer is shutting down; try another one")]
    ShuttingDown,
}

impl Refusal {
    /// Whether the operator may have to do something, and not only the client.
    pub(super) fn concerns_operator(&self) -> bool {
        matches!(
            self,
            Self::Unknown(_) | Self::NotReady(_) | Self::Overloaded | Self::PeerOverLimit(_)
        )
    }

    /// Every label that [`Self::reason`] returns.
    pub(super) const REASONS: [&str; 10] = [
        "not_grpc",
        "encoding",
        "total",
        "peer",
        "no_initial_request",
        "malformed",
        "bad_name",
        "unknown_service",
        "not_ready",
        "shutting_down",
    ];

    /// Its label in the metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Method | Self::ContentType => "not_grpc",
            Self::Encoding(_) => "encoding",
            Self::Overloaded => "total",
            Self::PeerOverLimit(_) => "peer",
            Self::NoInitialRequest(_) | Self::Ended => "no_initial_request",
            Self::StatsFirst | Self::Malformed(_) | Self::Framing(_) => "malformed",
            Self::Name(_) => "bad_name",
            Self::Unknown(_) | Self::Removed(_) => "unknown_service",
            Self::NotReady(_) => "not_ready",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// As the one and only answer to the request.
    pub(super) fn into_response<B: Default>(self) -> Response<B> {
        match self {
            Self::Method => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
                let allow = HeaderValue::from_static("POST");
                response.headers_mut().insert(ALLOW, allow);
                response
            }
            Self::ContentType => plain(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::Encoding(_) => {
                let mut response: Response<B> = self.status().into_http();
                let accepted = HeaderValue::from_static(Encoding::ACCEPTED);
                let headers = response.headers_mut();
                headers.insert("grpc-accept-encoding", accepted);
                response
            }
            _ => self.status().into_http(),
        }
    }

    fn status(&self) -> Status {
        let code = match self {
            Self::Method | Self::ContentType => Code::Internal,
            Self::Encoding(_) => Code::Unimplemented,
            Self::NoInitialRequest(_) => Code::DeadlineExceeded,
            Self::PeerOverLimit(_) => Code::ResourceExhausted,
            Self::Malformed(Malformed::NoEncoding) => Code::Internal,
            Self::Malformed(Malformed::TooLong(_)) => Code::ResourceExhausted,
            Self::Ended | Self::StatsFirst | Self::Malformed(_) | Self::Name(_) => {
                Code::InvalidArgument
            }
            Self::Framing(error) => return framing_lost(*error),
            Self::Unknown(_) | Self::Removed(_) => Code::NotFound,
            Self::Overloaded | Self::NotReady(_) | Self::ShuttingDown => Code::Unavailable,
        };
        Status::new(code, self.to_string())
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        match full {
            Full::Total => Self::Overloaded,
            Full::Peer(limit) => Self::PeerOverLimit(limit),
        }
    }
}

/// What a stream ends with whose messages cannot be told apart any more.
pub(super) fn framing_lost(error: FrameError) -> Status {
    let code = match error {
        FrameError::Flag(_) => Code::InvalidArgument,
        FrameError::TooLong { .. } => Code::ResourceExhausted,
    };
    Status::new(code, error.to_string())
}

/// What a stream ends with that the balancer ends.
pub(super) fn ended(reason: EndReason) -> Status {
    match reason {
        EndReason::ServiceRemoved => {
            Status::not_found("the service was removed from this balancer's configuration")
        }
        EndReason::ShuttingDown => Status::unavailable("the balancer is shutting down"),
    }
}

fn plain<B: Default>(status: StatusCode) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    // Who waits how long for a service is the catalogue's, and tested there.
    #[test]
    fn a_service_that_is_not_ready_is_unavailable() {
        let name = RequestedName::parse("greeter.test").unwrap();
        let response: Response<tonic::body::Body> = Refusal::NotReady(name).into_response();
        assert_eq!(response.status(), StatusCode::OK);
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Unavailable);
        let says = "`greeter.test` yet; try again";
        assert!(status.message().contains(says), "{status}");
    }
}
