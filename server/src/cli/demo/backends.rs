//! The demo's backends: the Greeter of gRPC's examples, three times.

use std::net::{Ipv4Addr, SocketAddr};

use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// A Greeter that says where it is.
#[derive(Debug)]
struct Backend {
    addr: SocketAddr,
}

#[tonic::async_trait]
impl Greeter for Backend {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let name = request.into_inner().name;
        Ok(Response::new(HelloReply {
            message: greeting(&name, self.addr),
        }))
    }
}

/// A bound backend, not served yet.
#[derive(Debug)]
pub(super) struct BoundBackend {
    listener: TcpListener,
    /// Where it listens.
    pub(super) addr: SocketAddr,
}

impl BoundBackend {
    /// Binds a port of the loopback address.
    pub(super) async fn bind() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr })
    }

    /// Serves until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), tonic::transport::Error> {
        let greeter = GreeterServer::new(Backend { addr: self.addr });
        let incoming = TcpListenerStream::new(self.listener);
        Server::builder()
            .tcp_nodelay(true)
            .add_service(greeter)
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
            .await
    }
}

fn greeting(name: &str, addr: SocketAddr) -> String {
    format!("Hello {name} from {addr}")
}

/// Which backend a greeting is from.
pub(super) fn sender(message: &str) -> Option<SocketAddr> {
    message.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_says_who_sent_it() {
        let addr = "127.0.0.1:5000".parse().unwrap();
        assert_eq!(sender(&greeting("a b", addr)), Some(addr));
        assert_eq!(sender("Hello"), None);
    }
}
