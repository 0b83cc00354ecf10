//! A balancer whose part the test plays, stream by stream.

use std::net::SocketAddr;

use lookaside_proto::registration_v1::register_request::Message;
use lookaside_proto::registration_v1::register_response::Message as Answer;
use lookaside_proto::registration_v1::registration_service_server::{
    RegistrationService, RegistrationServiceServer,
};
use lookaside_proto::registration_v1::{
    LoadReport, Outcome, RegisterRequest, RegisterResponse, Registered, Registration, ServiceResult,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{ANY_PORT, soon};

/// A balancer in a runtime of its own, so that it can die as a process does.
pub(crate) struct Balancer {
    pub(crate) addr: SocketAddr,
    runtime: Option<Runtime>,
    streams: mpsc::UnboundedReceiver<Stream>,
}

/// A backend's stream, as the balancer has it.
pub(crate) struct Stream {
    pub(crate) token: Option<String>,
    requests: Streaming<RegisterRequest>,
    answers: mpsc::Sender<Result<RegisterResponse, Status>>,
}

struct Script {
    streams: mpsc::UnboundedSender<Stream>,
}

impl Balancer {
    pub(crate) async fn start() -> Self {
        Self::start_at(ANY_PORT).await
    }

    /// The same at an address where one may just have died.
    pub(crate) async fn start_at(addr: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let bind = async move {
            loop {
                match TcpListener::bind(addr).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let listener = soon("a port", runtime.spawn(bind)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let script = RegistrationServiceServer::new(Script { streams: sender });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(script)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self {
            addr,
            runtime: Some(runtime),
            streams,
        }
    }

    pub(crate) fn target(&self) -> String {
        format!("static:{}", self.addr)
    }

    pub(crate) async fn stream(&mut self) -> Stream {
        soon("a stream", self.streams.recv()).await.unwrap()
    }

    /// The next stream, with its registration, taken.
    pub(crate) async fn registered(&mut self, interval_ms: u32) -> (Stream, Registration) {
        let mut stream = self.stream().await;
        let registration = stream.registration().await;
        stream.accept(&registration, interval_ms).await;
        (stream, registration)
    }

    /// Ends as a process that is killed.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.runtime.take().unwrap().shutdown_background();
        self.addr
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Stream {
    /// The next message; `None` at the stream's end, whatever it is.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let request = soon("a message", self.requests.message()).await;
        Some(request.ok()??.message.unwrap())
    }

    pub(crate) async fn registration(&mut self) -> Registration {
        match self.next().await {
            Some(Message::Registration(registration)) => registration,
            other => panic!("no registration: {other:?}"),
        }
    }

    pub(crate) async fn load(&mut self) -> LoadReport {
        match self.next().await {
            Some(Message::Load(load)) => load,
            other => panic!("no load: {other:?}"),
        }
    }

    /// The next message that is no report of load.
    pub(crate) async fn next_but_load(&mut self) -> Option<Message> {
        loop {
            match self.next().await {
                Some(Message::Load(_)) => {}
                other => return other,
            }
        }
    }

    pub(crate) async fn accept(&self, registration: &Registration, interval_ms: u32) {
        let services = registration.services.iter().map(|service| ServiceResult {
            service: service.clone(),
            outcome: Outcome::Accepted.into(),
            error: String::new(),
        });
        self.answer(Answer::Registered(registered(
            services.collect(),
            interval_ms,
        )))
        .await;
    }

    pub(crate) async fn answer(&self, answer: Answer) {
        let response = RegisterResponse {
            message: Some(answer),
        };
        self.answers.send(Ok(response)).await.unwrap();
    }

    /// A message of a later version.
    pub(crate) async fn answer_unknown(&self) {
        let response = RegisterResponse { message: None };
        self.answers.send(Ok(response)).await.unwrap();
    }

    pub(crate) async fn refuse(self, status: Status) {
        self.answers.send(Err(status)).await.unwrap();
    }

    /// Ends the stream, and says nothing against it.
    pub(crate) fn end(self) {}
}

pub(crate) fn registered(services: Vec<ServiceResult>, interval_ms: u32) -> Registered {
    let ms = |ms: u32| {
        let duration = std::time::Duration::from_millis(ms.into());
        Some(lookaside_proto::duration::to_proto(duration))
    };
    Registered {
        address: "127.0.0.1:50051".to_owned(),
        lease: ms(interval_ms * 3),
        report_interval: ms(interval_ms),
        services,
    }
}

#[tonic::async_trait]
impl RegistrationService for Script {
    type RegisterStream = ReceiverStream<Result<RegisterResponse, Status>>;

    async fn register(
        &self,
        request: Request<Streaming<RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let token = request.metadata().get("authorization");
        let token = token.map(|token| token.to_str().unwrap().to_owned());
        let (answers, outbound) = mpsc::channel(16);
        let _ = self.streams.send(Stream {
            token,
            requests: request.into_inner(),
            answers,
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}
