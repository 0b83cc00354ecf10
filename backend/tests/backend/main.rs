//! A backend over real sockets: its registration, its drain and its counts,
//! against balancers that a test scripts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod balancer;
mod counts;
mod drain;
mod greeter;
mod nameserver;
mod registration;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Any free port of this machine.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What works takes far less.
const PATIENCE: Duration = Duration::from_secs(30);

/// A future that must not take longer than [`PATIENCE`].
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("never came: {what}"),
    }
}
