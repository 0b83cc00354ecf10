//! Processes that are killed.

use std::process::Stdio;
use std::time::Duration;

use lookaside_tests::{Checked, HealthMethods, soon};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::*;

const GRPC: &str = "health = { kind = \"grpc\" }";
const ORCA: &str = "load = { kind = \"orca\", interval = \"1s\" }";

/// A backend in a process of its own.
async fn process(listen: &str) -> (Child, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_checked-backend"))
        .arg(listen)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = soon("its address", lines.next_line()).await.unwrap();
    (child, line.unwrap().parse().unwrap())
}

/// From SIGKILL to a client's list without the backend.
async fn kill(keys: &str, times: usize) -> Vec<Duration> {
    let stays = Checked::start(HealthMethods::Both).await;
    let (mut child, addr) = process("127.0.0.1:0").await;
    let both = [stays.addr(), addr];
    let (balancer, mut follower) = with_all_listed(keys, &both).await;
    let mut took = Vec::new();
    for _ in 0..times {
        // The process has been there for a while: its connection is.
        until_counted(&balancer, "lookaside_backend_connections 2").await;
        if keys.contains("orca") {
            until_counted(&balancer, "lookaside_load_streams 2").await;
        }
        until_state(&balancer, "serving", 2).await;
        let killed = Instant::now();
        child.start_kill().unwrap();
        until_listed(&mut follower, &both[..1]).await;
        took.push(killed.elapsed());
        child.wait().await.unwrap();
        (child, _) = process(&addr.to_string()).await;
        until_listed(&mut follower, &both).await;
    }
    balancer.stop().await;
    took
}

#[tokio::test]
async fn a_killed_process_leaves_the_lists_and_returns_with_the_next() {
    let took = kill(GRPC, 1).await;
    eprintln!("killed, and out of the client's list after {:?}", took[0]);
}

#[tokio::test]
async fn so_does_one_that_only_reports_its_load() {
    let took = kill(ORCA, 1).await;
    eprintln!("killed, and out of the client's list after {:?}", took[0]);
}

/// `cargo test --release -p lookaside-tests --test promises -- --ignored twenty --nocapture`
#[tokio::test]
#[ignore = "a measurement, not a promise"]
async fn twenty_kills() {
    for keys in [GRPC, ORCA] {
        let mut took = kill(keys, 20).await;
        took.sort();
        println!("{keys}: median {:?}, max {:?}", took[10], took[19]);
    }
}
