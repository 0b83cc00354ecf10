//! A server whose answers are the test's, and calls that are not a stub's.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use http::Response;
use lookaside_client::Channel;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Code;
use tower::Service as _;

use super::within;

/// A server whose streams the test answers itself, frame by frame.
pub(crate) struct StreamServer {
    pub(crate) addr: SocketAddr,
    streams: mpsc::UnboundedReceiver<SendResponse<Bytes>>,
    _task: JoinHandle<()>,
}

impl StreamServer {
    pub(crate) async fn start(builder: &server::Builder) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let builder = builder.clone();
        let _task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let mut connection = builder.handshake(socket).await.unwrap();
                let sender = sender.clone();
                tokio::spawn(async move {
                    while let Some(Ok((_, respond))) = connection.accept().await {
                        // The test may be over.
                        let _ = sender.send(respond);
                    }
                });
            }
        });
        Self {
            addr,
            streams,
            _task,
        }
    }

    /// One that allows so many streams at a time on a connection.
    pub(crate) async fn with_limit(streams: u32) -> Self {
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(streams);
        Self::start(&builder).await
    }

    /// A channel to it alone.
    pub(crate) fn channel(&self) -> Channel {
        let target = format!("static:{}", self.addr);
        Channel::builder(target).connect_lazy().unwrap()
    }

    /// The next stream.
    #[track_caller]
    pub(crate) fn next(&mut self) -> impl Future<Output = SendResponse<Bytes>> {
        let next = within("a stream", self.streams.recv());
        async { next.await.unwrap() }
    }

    /// Whether there is a stream that was not taken.
    pub(crate) fn has_stream(&self) -> bool {
        !self.streams.is_empty()
    }
}

/// Ends an RPC with this code, and nothing else.
pub(crate) fn end(respond: &mut SendResponse<Bytes>, code: Code) {
    let response = Response::builder().header("grpc-status", i32::from(code));
    respond
        .send_response(response.body(()).unwrap(), true)
        .unwrap();
}

/// A call with this `grpc-timeout`; its response's body.
pub(crate) async fn timed(
    channel: &Channel,
    timeout: &str,
) -> Result<tonic::body::Body, tonic::Status> {
    let message = Bytes::from_static(b"\0\0\0\0\0");
    let body = tonic::body::Body::new(http_body_util::Full::new(message));
    let mut request = http::Request::post("/helloworld.Greeter/SayHello");
    for (name, value) in [
        ("grpc-timeout", timeout),
        ("content-type", "application/grpc"),
    ] {
        request = request.header(name, value);
    }
    let request = request.body(body).unwrap();
    Ok(channel.clone().call(request).await?.into_body())
}
