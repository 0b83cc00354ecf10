//! This repository's server.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::Push;

pub(super) async fn start(
    addr: SocketAddr,
    entries: usize,
    tasks: &mut JoinSet<()>,
) -> Result<(SocketAddr, Box<dyn Push>)> {
    let _ = (addr, entries, tasks);
    bail!("not wired yet")
}
