//! What one writes first: tonic's server and generated code, a `watch` of the
//! newest response, and a clone of it for each stream to encode.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use lookaside_proto::lb_v1::load_balancer_server::{LoadBalancer, LoadBalancerServer};
use lookaside_proto::lb_v1::{LoadBalanceRequest, LoadBalanceResponse};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::Push;
use crate::backends::{backends, initial_response, list_response};
use crate::clock;

type Newest = watch::Sender<Arc<LoadBalanceResponse>>;

struct Balancer {
    newest: Arc<Newest>,
}

struct Pusher {
    entries: usize,
    newest: Arc<Newest>,
}

struct Responses {
    initial: Option<LoadBalanceResponse>,
    newest: WatchStream<Arc<LoadBalanceResponse>>,
    requests: Streaming<LoadBalanceRequest>,
}

pub(super) async fn start(
    addr: SocketAddr,
    entries: usize,
    tasks: &mut JoinSet<()>,
) -> Result<(SocketAddr, Box<dyn Push>)> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let list = list_response(&backends(entries, 0)?);
    let newest = Arc::new(Newest::new(Arc::new(list)));
    let service = LoadBalancerServer::new(Balancer {
        newest: Arc::clone(&newest),
    });
    let serving = Server::builder()
        .add_service(service)
        .serve_with_incoming(incoming);
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            eprintln!("tonic's server ended: {error}");
        }
    });
    Ok((addr, Box::new(Pusher { entries, newest })))
}

impl Push for Pusher {
    fn push(&mut self, change: u64) -> Result<u64> {
        let before = clock::now();
        let list = list_response(&backends(self.entries, change)?);
        self.newest.send_replace(Arc::new(list));
        Ok(before)
    }
}

#[tonic::async_trait]
impl LoadBalancer for Balancer {
    type BalanceLoadStream = Responses;

    async fn balance_load(
        &self,
        request: Request<Streaming<LoadBalanceRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let mut requests = request.into_inner();
        requests
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("no initial request"))?;
        Ok(Response::new(Responses {
            initial: Some(initial_response()),
            newest: WatchStream::new(self.newest.subscribe()),
            requests,
        }))
    }
}

impl Stream for Responses {
    type Item = Result<LoadBalanceResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(initial) = this.initial.take() {
            return Poll::Ready(Some(Ok(initial)));
        }
        // Statistics are read and forgotten.
        while let Poll::Ready(request) = Pin::new(&mut this.requests).poll_next(cx) {
            match request {
                Some(Ok(_)) => {}
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
        Pin::new(&mut this.newest)
            .poll_next(cx)
            .map(|newest| newest.map(|list| Ok(LoadBalanceResponse::clone(&list))))
    }
}
