//! What one writes second: tonic's server with a codec of forty lines, so that
//! the list is encoded once and each stream copies the bytes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::{Buf as _, BufMut as _, Bytes};
use lookaside_proto::lb_v1::BALANCE_LOAD_PATH;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

use super::Push;
use crate::backends::{backends, initial_response, list_response};
use crate::clock;

type Newest = watch::Sender<Bytes>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Messages are bytes already.
struct BytesCodec;

struct CopyIn;

struct TakeOut;

#[derive(Clone)]
struct Balancer {
    newest: Arc<Newest>,
}

struct Pusher {
    entries: usize,
    newest: Arc<Newest>,
}

struct Responses {
    initial: Option<Bytes>,
    newest: WatchStream<Bytes>,
    requests: Streaming<Bytes>,
}

pub(super) async fn start(
    addr: SocketAddr,
    entries: usize,
    tasks: &mut JoinSet<()>,
) -> Result<(SocketAddr, Box<dyn Push>)> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let newest = Arc::new(Newest::new(encoded(entries, 0)?));
    let serving = Server::builder()
        .add_service(Balancer {
            newest: Arc::clone(&newest),
        })
        .serve_with_incoming(incoming);
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            eprintln!("tonic's server ended: {error}");
        }
    });
    Ok((addr, Box::new(Pusher { entries, newest })))
}

fn encoded(entries: usize, change: u64) -> Result<Bytes> {
    let list = list_response(&backends(entries, change)?);
    Ok(list.encode_to_vec().into())
}

impl Push for Pusher {
    fn push(&mut self, change: u64) -> Result<u64> {
        let before = clock::now();
        self.newest.send_replace(encoded(self.entries, change)?);
        Ok(before)
    }
}

impl NamedService for Balancer {
    const NAME: &'static str = "grpc.lb.v1.LoadBalancer";
}

impl<B> Service<http::Request<B>> for Balancer
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let balancer = self.clone();
        Box::pin(async move {
            if request.uri().path() != BALANCE_LOAD_PATH {
                return Ok(Status::unimplemented("only BalanceLoad is here").into_http());
            }
            Ok(Grpc::new(BytesCodec).streaming(balancer, request).await)
        })
    }
}

impl StreamingService<Bytes> for Balancer {
    type Response = Bytes;
    type ResponseStream = Responses;
    type Future = BoxFuture<Result<Response<Responses>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let newest = self.newest.subscribe();
        Box::pin(async move {
            let mut requests = request.into_inner();
            requests
                .message()
                .await?
                .ok_or_else(|| Status::invalid_argument("no initial request"))?;
            Ok(Response::new(Responses {
                initial: Some(initial_response().encode_to_vec().into()),
                newest: WatchStream::new(newest),
                requests,
            }))
        })
    }
}

impl Stream for Responses {
    type Item = Result<Bytes, Status>;

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
            .map(|list| list.map(Ok))
    }
}

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = CopyIn;
    type Decoder = TakeOut;

    fn encoder(&mut self) -> CopyIn {
        CopyIn
    }

    fn decoder(&mut self) -> TakeOut {
        TakeOut
    }
}

impl Encoder for CopyIn {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for TakeOut {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
