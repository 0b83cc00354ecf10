//! A backend as a process, to be killed: a Greeter with `grpc.health.v1` and ORCA.
//! Prints where it listens, and ends with its standard input.

#![allow(clippy::print_stdout, reason = "its answer goes to stdout")]

use anyhow::Context as _;
use lookaside_backend::{Load, Utilization};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let listen = std::env::args().nth(1).context("where to listen?")?;
    let listener = TcpListener::bind(&listen).await.context(listen)?;
    println!("{}", listener.local_addr()?);
    let load = Load::new(Utilization::Set);
    load.set_utilization(0.5);
    let (_reporter, health) = tonic_health::server::health_reporter();
    let served = tonic::transport::Server::builder()
        .add_service(health)
        .add_service(load.orca())
        .serve_with_incoming(TcpListenerStream::new(listener));
    let mut input = tokio::io::stdin();
    let mut byte = [0];
    tokio::select! {
        served = served => served?,
        _ = input.read(&mut byte) => {}
    }
    Ok(())
}
