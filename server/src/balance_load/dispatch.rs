//! Who answers what on the main port.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use lookaside_proto::lb_v1::BALANCE_LOAD_PATH;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;

use super::BalanceLoad;
use super::admission::{Purpose, Seat};
use super::body::Body;
use super::grpc_message;
use super::handshake::peer_ip;
use super::side;
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
        let network = Network::of(peer_ip(&request));
        let seat = match Seat::take(&self.balance_load.0, network, purpose) {
            Ok(seat) => seat,
            Err(refusal) => {
                // At once: to hold it back would take what it may not have.
                let peer = request.extensions().get::<Arc<Peer>>();
                let response = self.balance_load.refuse(refusal, peer.map(Arc::as_ref));
                return Box::pin(std::future::ready(Ok(tamed(response))));
            }
        };
        if lists {
            let answer = self.balance_load.clone().answer(request, seat);
            return Box::pin(async { Ok(tamed(answer.await)) });
        }
        if let Some(peer) = request.extensions().get::<Arc<Peer>>() {
            let remote_addr = Some(peer.addr);
            request.extensions_mut().insert(TcpConnectInfo {
                local_addr: None,
                remote_addr,
            });
        }
        let answer = side::answer(self.routes.clone(), request, seat);
        Box::pin(async { Ok(tamed(answer.await)) })
    }
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
