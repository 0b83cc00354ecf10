//! Programs to copy from, in `src/bin`, and commented configurations and clients in
//! other languages beside them.
//!
//! | program | what it shows |
//! |---|---|
//! | `backend` | a Greeter behind the balancer: tokens, and an end in good order |
//! | `client_lookaside` | a client that follows the balancer |
//! | `client_round_robin` | a client without a balancer, and backends that end |
//! | `custom_resolver` | addresses from a source of your own |
//! | `custom_policy` | a load balancing policy of your own |
//! | `call_metrics` | metrics of each call, for Prometheus |
//! | `call_metrics_otel` | the same for OpenTelemetry |
//!
//! The library holds what programs need that bring their own backends.

use std::collections::HashMap;
use std::net::SocketAddr;

use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Greeters on loopback that answer with their names. They end with this.
#[derive(Debug, Default)]
pub struct Backends {
    stops: HashMap<&'static str, oneshot::Sender<()>>,
    servers: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Backends {
    /// Starts one more.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(&mut self, name: &'static str) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        self.servers.spawn(
            tonic::transport::Server::builder()
                .add_service(GreeterServer::new(Named(name)))
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                    // Stopped, or forgotten.
                    let _ = stopped.await;
                }),
        );
        self.stops.insert(name, stop);
        Ok(addr)
    }

    /// Ends one in good order: calls under way finish.
    pub async fn stop(&mut self, name: &str) {
        if let Some(stop) = self.stops.remove(name) {
            let _ = stop.send(());
            self.servers.join_next().await;
        }
    }
}

/// A gRPC code as metrics have it, e.g. `DEADLINE_EXCEEDED`.
#[must_use]
pub fn status_name(code: tonic::Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

struct Named(&'static str);

#[tonic::async_trait]
impl Greeter for Named {
    async fn say_hello(
        &self,
        _request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply {
            message: self.0.to_owned(),
        }))
    }
}
