//! Where everything listens, once it does.

use std::net::SocketAddr;

use serde::Serialize;

/// Bound addresses, with the ports they got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// BalanceLoad, health, reflection.
    pub balancer: SocketAddr,
    /// `/livez`, `/readyz`, `/metrics`.
    pub admin: SocketAddr,
    /// DNS, if it is on.
    pub dns: Option<SocketAddr>,
}
