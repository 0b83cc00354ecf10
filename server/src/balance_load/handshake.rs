//! From a request to a stream, or to the reason why there is none.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::admission::Seat;
use super::body::{BalanceLoadBody, Body};
use super::delivery::{EndReason, Subscription};
use super::metrics::ServiceMetrics;
use super::refusal::Refusal;
use super::request::{Encoding, Message, RequestReader};
use super::stream::Stream;
use super::{BalanceLoad, Shared};
use crate::catalogue::ResolveError;
use crate::net::{Network, Peer};
use crate::telemetry::printable;
use crate::wait::within;
use lookaside_core::model::RequestedName;

/// Characters of a header that are quoted.
const MAX_QUOTE: usize = 64;

impl BalanceLoad {
    /// Answers a request to the method's path that has a seat.
    pub(super) async fn answer(self, request: Request<Incoming>, seat: Seat) -> Response<Body> {
        let network = Network::of(peer_ip(&request));
        let peer = request.extensions().get::<Arc<Peer>>().map(Arc::clone);
        match begin(&self.0, request).await {
            Ok(begun) => {
                let stream = Stream::new(begun, seat);
                let mut response =
                    Response::new(Body::BalanceLoad(BalanceLoadBody(Box::new(stream))));
                let grpc = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert(CONTENT_TYPE, grpc);
                response
            }
            Err(refusal) => {
                self.refused(&refusal, peer.as_deref());
                let hold_back = self.0.throttle.hold_back(network);
                if !hold_back.is_zero() {
                    sleep(hold_back).await;
                }
                // Up to here it has its seat.
                drop(seat);
                refusal.into_response()
            }
        }
    }
}

impl BalanceLoad {
    /// Answers a request that gets no seat.
    pub(super) fn refuse(&self, refusal: Refusal, peer: Option<&Peer>) -> Response<Body> {
        self.refused(&refusal, peer);
        refusal.into_response()
    }

    /// Logs and counts a refusal.
    fn refused(&self, refusal: &Refusal, peer: Option<&Peer>) {
        let peer = peer.map(|peer| tracing::field::display(peer.addr));
        let concern = refusal.concerns_operator();
        let log = &self.0.refusal_log;
        match concern.then(|| log.now(refusal.reason())).flatten() {
            Some(unlogged) => warn!(
                peer,
                %refusal,
                unlogged,
                "refused a stream; more may follow unlogged"
            ),
            None => debug!(peer, %refusal, "refused a stream"),
        }
        self.0.metrics.refused(refusal);
    }
}

/// What a stream begins with.
pub(super) struct Begun {
    pub(super) request: Incoming,
    pub(super) reader: RequestReader,
    pub(super) subscription: Subscription,
    pub(super) metrics: Arc<ServiceMetrics>,
}

async fn begin(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Begun, Refusal> {
    let encoding = check(&request)?;
    let peer = request.extensions().get::<Arc<Peer>>();
    let connection = peer.map_or_else(CancellationToken::new, |peer| peer.connection.clone());
    let ip = peer_ip(&request);

    let mut request = request.into_body();
    let mut reader = RequestReader::new(encoding);
    let time = shared.admission.limits.initial_request_timeout;
    let initial = within(time, first_message(&mut request, &mut reader));
    let name = match initial.await {
        Ok(Ok(Message::Initial(name))) => name,
        Ok(Ok(Message::Stats(_))) => return Err(Refusal::StatsFirst),
        Ok(Ok(Message::Malformed(malformed))) => return Err(Refusal::Malformed(malformed)),
        Ok(Err(refusal)) => return Err(refusal),
        Err(_) => return Err(Refusal::NoInitialRequest(time)),
    };
    let name = RequestedName::parse(&name).map_err(Refusal::Name)?;
    let service = match shared.catalogue.resolve(&name).await {
        Ok(service) => service,
        Err(ResolveError::Unknown) => return Err(Refusal::Unknown(name)),
        Err(ResolveError::NotReady) => return Err(Refusal::NotReady(name)),
    };
    let subscription = shared
        .deliveries
        .subscribe(&service, ip, connection, &shared.metrics);
    let subscription = subscription.map_err(|reason| match reason {
        EndReason::ServiceRemoved => Refusal::Removed(name),
        EndReason::ShuttingDown => Refusal::ShuttingDown,
    })?;
    let metrics = shared.metrics.service(service.name());
    Ok(Begun {
        request,
        reader,
        subscription,
        metrics,
    })
}

/// Whose request it is. Without a peer, as under another server, all are one.
pub(super) fn peer_ip(request: &Request<Incoming>) -> IpAddr {
    let peer = request.extensions().get::<Arc<Peer>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.addr.ip())
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
