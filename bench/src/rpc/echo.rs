//! A backend: tonic's server and a Greeter that gives back what it is told.
//!
//! It says `listening ADDR` and ends with stdin, or by SIGKILL.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::net::TcpSocket;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::child::say;

#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    /// Where to listen.
    #[arg(long)]
    addr: SocketAddr,
    /// How long an RPC takes, in µs.
    #[arg(long, default_value_t = 0)]
    takes_us: u64,
    /// Answer with one's own port, and say `+NAME` when an RPC of caller NAME
    /// begins and `-NAME` when it ends.
    #[arg(long)]
    journal: bool,
}

struct Echo {
    port: u16,
    takes: Duration,
    journal: bool,
}

/// Serves until stdin ends, on one thread.
pub(crate) fn run(args: &EchoArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let listener = runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        // Where a killed one listened before.
        socket.set_reuseaddr(true)?;
        socket.bind(args.addr)?;
        socket.listen(1024)
    })?;
    let addr = listener.local_addr()?;
    let service = GreeterServer::new(Echo {
        port: addr.port(),
        takes: Duration::from_micros(args.takes_us),
        journal: args.journal,
    });
    // It lives as long as the runtime, which ends with this function.
    let serving = runtime.spawn(async move {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder().add_service(service);
        if let Err(error) = server.serve_with_incoming(incoming).await {
            eprintln!("a backend ended: {error}");
        }
    });
    say(format_args!("listening {addr}"))?;
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    serving.abort();
    Ok(())
}

impl Echo {
    fn note(&self, sign: char, caller: &str) -> Result<(), Status> {
        if !self.journal {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{sign}{caller}").map_err(|error| Status::internal(error.to_string()))
    }
}

#[tonic::async_trait]
impl Greeter for Echo {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let caller = request.into_inner().name;
        self.note('+', &caller)?;
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        self.note('-', &caller)?;
        Ok(Response::new(HelloReply {
            message: match self.journal {
                true => self.port.to_string(),
                false => caller,
            },
        }))
    }
}
