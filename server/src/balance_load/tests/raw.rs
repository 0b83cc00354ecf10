//! A client that can misbehave: HTTP/2 with nothing of gRPC on top.

use bytes::{Buf as _, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response};
use lookaside_proto::frame::{self, MessageReader};
use lookaside_proto::lb_v1::BALANCE_LOAD_PATH;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

/// An HTTP/2 connection.
pub(super) struct Raw {
    h2: SendRequest<Bytes>,
    /// Ends with the connection, and says how.
    pub(super) connection: JoinHandle<Result<(), h2::Error>>,
}

/// A request, and the response to it.
pub(super) struct Call {
    pub(super) request: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    reader: MessageReader,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Whether nothing came before the status: only then clients back off.
    pub(super) trailers_only: bool,
    pub(super) status: Status,
    pub(super) headers: HeaderMap,
}

impl Raw {
    pub(super) async fn connect(balancer: &Balancer) -> Self {
        Self::with_window(balancer, 65_535).await
    }

    /// Whose streams are granted `window` bytes at a time.
    pub(super) async fn with_window(balancer: &Balancer, window: u32) -> Self {
        let socket = TcpStream::connect(balancer.addr).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (h2, connection) = builder.handshake(socket).await.unwrap();
        Self {
            h2,
            connection: tokio::spawn(connection),
        }
    }

    /// A `BalanceLoad` request that says nothing yet.
    pub(super) async fn call(&mut self) -> Call {
        self.call_with(|_| ()).await
    }

    /// The same, with other headers.
    pub(super) async fn call_with(&mut self, change: impl FnOnce(&mut Request<()>)) -> Call {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://lb.test{BALANCE_LOAD_PATH}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        change(&mut request);
        std::future::poll_fn(|cx| self.h2.poll_ready(cx))
            .await
            .unwrap();
        let (response, request) = self.h2.send_request(request, false).unwrap();
        Call {
            request,
            response: Some(response),
            body: None,
            reader: MessageReader::new(1 << 20),
        }
    }

    /// A stream for `service` up to its `initial_response`.
    pub(super) async fn follow(&mut self, service: &str) -> Call {
        let mut call = self.call().await;
        call.send(initial(service));
        match call.next().await.unwrap() {
            LoadBalanceResponseType::InitialResponse(_) => call,
            other => panic!("not initial_response: {other:?}"),
        }
    }
}

impl Call {
    /// Sends bytes as one DATA frame (or several, if they are many).
    pub(super) fn send(&mut self, bytes: impl Into<Bytes>) {
        self.request.send_data(bytes.into(), false).unwrap();
    }

    pub(super) async fn response(&mut self) -> Response<()> {
        let response = self.response.take().expect("the first time");
        let response = timeout(SOON, response).await.expect("in time").unwrap();
        let (head, body) = response.into_parts();
        self.body = Some(body);
        Response::from_parts(head, ())
    }

    /// The next message, if there is one.
    pub(super) async fn next(&mut self) -> Option<LoadBalanceResponseType> {
        if self.body.is_none() {
            self.response().await;
        }
        let body = self.body.as_mut().unwrap();
        loop {
            if let Some(raw) = self.reader.next_message().unwrap() {
                let message = LoadBalanceResponse::decode(raw.bytes).unwrap();
                return message.load_balance_response_type;
            }
            let data = timeout(SOON, body.data()).await.expect("in time")?.unwrap();
            body.flow_control()
                .release_capacity(data.remaining())
                .unwrap();
            self.reader.push(data);
        }
    }

    pub(super) async fn list(&mut self) -> ServerList {
        match self.next().await {
            Some(LoadBalanceResponseType::ServerList(list)) => list,
            other => panic!("not a list: {other:?}"),
        }
    }

    /// How it ends, whatever comes before.
    pub(super) async fn end(&mut self) -> Ended {
        let mut headers = HeaderMap::new();
        if self.body.is_none() {
            headers = self.response().await.headers().clone();
        }
        if let Some(status) = Status::from_header_map(&headers) {
            return Ended {
                trailers_only: true,
                status,
                headers,
            };
        }
        while self.next().await.is_some() {}
        let trailers = self.body.as_mut().unwrap().trailers();
        let trailers = timeout(SOON, trailers).await.expect("in time").unwrap();
        let headers = trailers.expect("trailers");
        Ended {
            trailers_only: false,
            status: Status::from_header_map(&headers).expect("a status"),
            headers,
        }
    }
}

/// `initial_request`, framed.
pub(super) fn initial(service: &str) -> Bytes {
    let name = service.to_owned();
    request(LoadBalanceRequestType::InitialRequest(
        InitialLoadBalanceRequest { name },
    ))
}

/// `client_stats`, framed.
pub(super) fn stats(stats: ClientStats) -> Bytes {
    request(LoadBalanceRequestType::ClientStats(stats))
}

pub(super) fn request(request: LoadBalanceRequestType) -> Bytes {
    frame::encode(&LoadBalanceRequest {
        load_balance_request_type: Some(request),
    })
}

/// Anything, framed as one message.
pub(super) fn framed(flag: u8, message: &[u8]) -> Bytes {
    let [_, a, b, c, d] = frame::header(u32::try_from(message.len()).unwrap());
    [&[flag, a, b, c, d], message].concat().into()
}
