//! From a request to a stream, or to the reason why there is none.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::delivery::{Deliveries, EndReason, Subscription};
use super::metrics::{BalanceLoadMetrics, ServiceMetrics};
use super::refusal::Refusal;
use super::request::{Encoding, Message, RequestReader};
use crate::catalogue::{Catalogue, ResolveError};
use crate::net::Peer;
use crate::telemetry::printable;
use crate::wait::within;
use lookaside_core::model::RequestedName;

/// Characters of a header that are quoted.
const MAX_QUOTE: usize = 64;

/// What it takes to begin a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handshake<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) deliveries: &'a Deliveries,
    pub(super) metrics: &'a BalanceLoadMetrics,
    /// Time for a client to say what it wants.
    pub(super) timeout: Duration,
}

/// What a stream begins with.
pub(super) struct NewStream {
    pub(super) request: Incoming,
    pub(super) reader: RequestReader,
    pub(super) subscription: Subscription,
    pub(super) metrics: Arc<ServiceMetrics>,
}

impl Handshake<'_> {
    /// The beginning of a stream that a client at `ip` asks for, or why there is none.
    pub(super) async fn begin(
        self,
        request: Request<Incoming>,
        ip: IpAddr,
    ) -> Result<NewStream, Refusal> {
        let encoding = check(&request)?;
        let peer = request.extensions().get::<Arc<Peer>>();
        let connection = peer.map_or_else(CancellationToken::new, |peer| peer.connection.clone());

        let mut request = request.into_body();
        let mut reader = RequestReader::new(encoding);
        let initial = within(self.timeout, first_message(&mut request, &mut reader));
        let name = match initial.await {
            Ok(Ok(Message::Initial(name))) => name,
            Ok(Ok(Message::Stats(_))) => return Err(Refusal::StatsFirst),
            Ok(Ok(Message::Malformed(malformed))) => return Err(Refusal::Malformed(malformed)),
            Ok(Err(refusal)) => return Err(refusal),
            Err(_) => return Err(Refusal::NoInitialRequest(self.timeout)),
        };
        let name = RequestedName::parse(&name).map_err(Refusal::Name)?;
        let service = match self.catalogue.resolve(&name).await {
            Ok(service) => service,
            Err(ResolveError::Unknown) => return Err(Refusal::Unknown(name)),
            Err(ResolveError::NotReady) => return Err(Refusal::NotReady(name)),
        };
        let subscription = self
            .deliveries
            .subscribe(&service, ip, connection, self.metrics);
        let subscription = subscription.map_err(|reason| match reason {
            EndReason::ServiceRemoved => Refusal::Removed(name),
            EndReason::ShuttingDown => Refusal::ShuttingDown,
        })?;
        let metrics = self.metrics.service(service.name());
        Ok(NewStream {
            request,
            reader,
            subscription,
            metrics,
        })
    }
}

/// How the client compresses, if this is a gRPC request at all.
fn check(request: &Request<Incoming>) -> Result<Encoding, Refusal> {
    if request.method() != Method::POST {
        return Err(Refusal::Method);
    }
    if !is_grpc(request.headers()) {
        return Err(Refusal::ContentType);
    }
    let Some(encoding) = request.headers().get("grpc-encoding") else {
        return Ok(Encoding::Identity);
    };
    Encoding::parse(encoding.as_bytes()).ok_or_else(|| {
        let name = String::from_utf8_lossy(encoding.as_bytes());
        Refusal::Encoding(printable(&name, MAX_QUOTE))
    })
}

/// Whether the content is gRPC's, in protobuf, with or without parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    media_type.is_some_and(|media_type| {
        let media_type = media_type.trim();
        media_type.eq_ignore_ascii_case("application/grpc")
            || media_type.eq_ignore_ascii_case("application/grpc+proto")
    })
}

async fn first_message(
    request: &mut Incoming,
    reader: &mut RequestReader,
) -> Result<Message, Refusal> {
    loop {
        if let Some(message) = reader.next_message().map_err(Refusal::Framing)? {
            return Ok(message);
        }
        // An error is a client that has gone; nobody reads the refusal.
        let Some(Ok(frame)) = request.frame().await else {
            return Err(Refusal::Ended);
        };
        if let Ok(data) = frame.into_data() {
            reader.push(data);
        }
    }
}
