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

impl Addresses {
    /// What DNS answers for the balancers: the configured addresses, where port
    /// 0 means the port that this balancer got.
    #[must_use]
    pub fn advertised(&self, configured: &[SocketAddr]) -> Vec<SocketAddr> {
        let port = |addr: &SocketAddr| match addr.port() {
            0 => self.balancer.port(),
            port => port,
        };
        configured
            .iter()
            .map(|addr| SocketAddr::new(addr.ip(), port(addr)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_0_is_advertised_as_the_port_it_became() {
        let addresses = Addresses {
            balancer: "127.0.0.1:9000".parse().unwrap(),
            admin: "127.0.0.1:9001".parse().unwrap(),
            dns: None,
        };
        let configured = ["127.0.0.1:0", "10.0.0.6:9000"].map(|a| a.parse().unwrap());
        let advertised = addresses.advertised(&configured);
        assert_eq!(
            advertised,
            ["127.0.0.1:9000", "10.0.0.6:9000"].map(|a| a.parse().unwrap())
        );
    }
}
