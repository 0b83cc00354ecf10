//! Who answers what on the main port.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use lookaside_proto::lb_v1::BALANCE_LOAD_PATH;
use tokio::time::sleep;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tracing::{debug, warn};

use super::admission::{Permit, Purpose};
use super::body::{BalanceLoadBody, Body};
use super::grpc_message;
use super::handshake::Handshake;
use super::method::{BalanceLoad, Shared};
use super::refusal::Refusal;
use super::side;
use super::stream::Stream;
use crate::net::{Network, Peer};

/// Where backends register.
const REGISTER_PATH: &str = "/lookaside.v1.RegistrationService/Register";

/// The service of the main port: `BalanceLoad`, and what tonic serves.
#[derive(Debug, Clone)]
pub struct Dispatch {
    balance_load: BalanceLoad,
    routes: Routes,
}

/// The response to come. Boxed, so that what it takes to begin a stream does
/// not stay with the stream.
pub type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send + 'static>>;

impl Dispatch {
    /// `BalanceLoad` by its path, everything else by `routes`. Requests to
    /// those have tonic's [`TcpConnectInfo`] among their extensions.
    #[must_use]
    pub fn new(balance_load: BalanceLoad, routes: Routes) -> Self {
        Self {
            balance_load,
            routes: routes.prepare(),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, mut request: Request<Incoming>) -> ResponseFuture {
        let path = request.uri().path();
        let (lists, registers) = (path == BALANCE_LOAD_PATH, path == REGISTER_PATH);
        let purpose = if lists || registers {
            Purpose::Main
        } else {
            Purpose::Side
        };
        let shared = Arc::clone(&self.balance_load.0);
        let peer = request.extensions().get::<Arc<Peer>>().map(Arc::clone);
        let network = Network::of(ip_of(peer.as_deref()));
        let permit = match shared.admission.admit(network, purpose) {
            Ok(permit) => permit,
            Err(full) => {
                // At once: to hold it back would take what it may not have.
                let refusal = Refusal::from(full);
                refused(&shared, &refusal, peer.as_deref());
                return Box::pin(std::future::ready(Ok(tamed(refusal.into_response()))));
            }
        };
        if lists {
            let answer = answer(shared, request, peer, permit);
            return Box::pin(async { Ok(tamed(answer.await)) });
        }
        if let Some(peer) = &peer {
            request.extensions_mut().insert(TcpConnectInfo {
                local_addr: None,
                remote_addr: Some(peer.addr),
            });
        }
        let routes = self.routes.clone();
        Box::pin(async move {
            let limits = &shared.admission.limits;
            let answered = side::answer(routes, request, limits, permit).await;
            let response = match answered {
                Ok(response) => response.map(|body| Body::Tonic(Box::new(body))),
                Err(status) => status.into_http(),
            };
            Ok(tamed(response))
        })
    }
}

/// Answers a request for lists that is admitted.
async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    peer: Option<Arc<Peer>>,
    permit: Permit,
) -> Response<Body> {
    let ip = ip_of(peer.as_deref());
    let handshake = Handshake {
        catalogue: &shared.catalogue,
        deliveries: &shared.deliveries,
        metrics: &shared.metrics,
        timeout: shared.admission.limits.initial_request_timeout,
    };
    match handshake.begin(request, ip).await {
        Ok(begun) => {
            let stream = Stream::new(begun, Arc::clone(&shared.responses), permit);
            let mut response = Response::new(Body::BalanceLoad(BalanceLoadBody(Box::new(stream))));
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(CONTENT_TYPE, grpc);
            response
        }
        Err(refusal) => {
            refused(&shared, &refusal, peer.as_deref());
            let hold_back = shared.throttle.hold_back(Network::of(ip));
            if !hold_back.is_zero() {
                sleep(hold_back).await;
            }
            // Up to here it counts as a stream.
            drop(permit);
            refusal.into_response()
        }
    }
}

/// Logs and counts a refusal.
fn refused(shared: &Shared, refusal: &Refusal, peer: Option<&Peer>) {
    let peer = peer.map(|peer| tracing::field::display(peer.addr));
    let concern = refusal.concerns_operator();
    let log = &shared.refusal_log;
    match concern.then(|| log.now(refusal.reason())).flatten() {
        Some(unlogged) => warn!(
            peer,
            %refusal,
            unlogged,
            "refused a stream; more may follow unlogged"
        ),
        None => debug!(peer, %refusal, "refused a stream"),
    }
    shared.metrics.refused(refusal);
}

/// Whose request it is. Without a peer, as under another server, all are one.
fn ip_of(peer: Option<&Peer>) -> IpAddr {
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.addr.ip())
}

/// With a message that may go out, if it has one in its headers.
fn tamed(mut response: Response<Body>) -> Response<Body> {
    grpc_message::tame(response.headers_mut());
    response
}

impl tower::Service<Request<Incoming>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> ResponseFuture {
        hyper::service::Service::call(self, request)
    }
}
