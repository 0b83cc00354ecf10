//! A backend: so many permits, and a Greeter whose calls hold one for as long as
//! they take, without computing anything. It tells its load by ORCA, or on a
//! registration's stream.
//!
//! It says `listening ADDR`, then does what stdin says, and ends with it, or by
//! SIGKILL:
//!
//! | line in | line out |
//! |---|---|
//! | `permits N` | `permits` |
//! | `used` | `used BUSY ALL`: permits × nanoseconds so far |

use std::collections::VecDeque;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use lookaside_backend::{Load, Registration, Utilization};
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::pool::{Pool, Used};
use crate::backends::SERVICE;
use crate::child::say;

/// How often the utilisation that is reported is made anew.
const MEASURE: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// Where to listen.
    #[arg(long)]
    addr: SocketAddr,
    /// Calls at a time.
    #[arg(long)]
    permits: u64,
    /// How long a call takes on average, in µs. Any call takes between half of it
    /// and half as long again.
    #[arg(long)]
    takes_us: u64,
    /// How long a call may wait for a permit before it is refused, in ms.
    #[arg(long)]
    patience_ms: u64,
    /// Over what time the reported utilisation is averaged, in ms.
    #[arg(long)]
    window_ms: u64,
    /// Register with the balancer at this address.
    #[arg(long)]
    register: Option<SocketAddr>,
}

struct Waiter {
    pool: Pool,
    takes: Duration,
    patience: Duration,
}

/// Serves until stdin ends, on one thread.
pub(crate) fn run(args: &PoolArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let pool = Pool::new(args.permits);
    let load = Load::new(Utilization::Set);
    let greeter = GreeterServer::new(Waiter {
        pool: pool.clone(),
        takes: Duration::from_micros(args.takes_us),
        patience: Duration::from_millis(args.patience_ms),
    });
    // They live as long as the runtime, which ends with this function.
    let mut tasks = JoinSet::new();
    let (addr, _registration) = runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        // Where a killed one listened before.
        socket.set_reuseaddr(true)?;
        socket.bind(args.addr)?;
        let listener = socket.listen(1024)?;
        let addr = listener.local_addr()?;
        let (_, health) = tonic_health::server::health_reporter();
        let server = Server::builder()
            .layer(load.layer())
            .add_service(greeter)
            .add_service(load.orca())
            .add_service(health);
        let window = Duration::from_millis(args.window_ms);
        tasks.spawn(tell(load.clone(), pool.clone(), window));
        tasks.spawn(async move {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            if let Err(error) = server.serve_with_incoming(incoming).await {
                eprintln!("a backend ended: {error}");
            }
        });
        let registration = args.register.map(|balancer| {
            Registration::builder(format!("static:{balancer}"))
                .service(SERVICE)
                .port(addr.port())
                .load(&load)
                .start()
        });
        anyhow::Ok((addr, registration.transpose()?))
    })?;
    say(format_args!("listening {addr}"))?;
    for line in std::io::stdin().lock().lines() {
        match *line?.split_ascii_whitespace().collect::<Vec<_>>() {
            ["permits", permits] => {
                pool.shrink(permits.parse()?);
                say(format_args!("permits"))?;
            }
            ["used"] => {
                let Used { busy, all } = pool.used();
                say(format_args!("used {busy} {all}"))?;
            }
            ref other => bail!("the backend does not understand {other:?}"),
        }
    }
    Ok(())
}

/// Says again and again what share of the permits was in use over the last
/// `window`.
async fn tell(load: Load, pool: Pool, window: Duration) {
    let looks = (window.as_nanos() / MEASURE.as_nanos()).max(1);
    let looks = usize::try_from(looks).unwrap_or(usize::MAX);
    let mut seen = VecDeque::from([pool.used()]);
    let mut ticks = tokio::time::interval(MEASURE);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = pool.used();
        load.set_utilization(now.since(*seen.front().unwrap_or(&now)));
        seen.push_back(now);
        if seen.len() > looks {
            seen.pop_front();
        }
    }
}

#[tonic::async_trait]
impl Greeter for Waiter {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let Some(_permit) = self.pool.acquire(self.patience).await else {
            return Err(Status::resource_exhausted("no permit in time"));
        };
        tokio::time::sleep(self.takes.mul_f64(0.5 + fastrand::f64())).await;
        Ok(Response::new(HelloReply {
            message: request.into_inner().name,
        }))
    }
}
