//! A Greeter whose calls end when, and how, the test says.

use std::net::SocketAddr;

use lookaside_backend::Load;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::{ANY_PORT, soon};

/// A server of a Greeter, whose calls are counted.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    open: watch::Sender<bool>,
    running: JoinHandle<Result<(), tonic::transport::Error>>,
}

struct Gated {
    open: watch::Receiver<bool>,
}

impl Server {
    /// Serves until `stop` is over, then waits for its calls.
    pub(crate) async fn start<F>(load: &Load, stop: F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let open = watch::Sender::new(false);
        let gated = Gated {
            open: open.subscribe(),
        };
        let serving = tonic::transport::Server::builder()
            .layer(load.layer())
            .add_service(GreeterServer::new(gated))
            .add_service(load.orca())
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop);
        Self {
            addr,
            open,
            running: tokio::spawn(serving),
        }
    }

    /// Lets every call end that was told to wait, now and from now on.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.addr)).unwrap();
        soon("a connection", endpoint.connect()).await.unwrap()
    }

    pub(crate) async fn ended(self) {
        let ended = soon("the server's end", self.running).await;
        ended.unwrap().unwrap();
    }
}

/// One call; `wait` and names of codes are what it can be told.
pub(crate) async fn greet(channel: &Channel, name: &str) -> Result<HelloReply, Status> {
    let request = HelloRequest {
        name: name.to_owned(),
    };
    let mut client = GreeterClient::new(channel.clone());
    let reply = soon("a reply", client.say_hello(request)).await?;
    Ok(reply.into_inner())
}

#[tonic::async_trait]
impl Greeter for Gated {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        match request.into_inner().name.as_str() {
            "wait" => {
                let mut open = self.open.clone();
                let _ = open.wait_for(|open| *open).await;
            }
            "internal" => return Err(Status::new(Code::Internal, "as told")),
            "not found" => return Err(Status::new(Code::NotFound, "as told")),
            _ => {}
        }
        Ok(Response::new(HelloReply::default()))
    }
}
