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
    /// What DNS answers for the balancers: the configured addresses; without
    /// any, where this balancer listens.
    #[must_use]
    pub fn advertised(&self, configured: &[SocketAddr]) -> Vec<SocketAddr> {
        if configured.is_empty() {
            vec![self.balancer]
        } else {
            configured.to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unless_told_otherwise_dns_answers_the_port_that_was_bound() {
        let addresses = Addresses {
            balancer: "127.0.0.1:34567".parse().unwrap(),
            admin: "127.0.0.1:9001".parse().unwrap(),
            dns: None,
        };
        assert_eq!(addresses.advertised(&[]), [addresses.balancer]);
        let configured = ["10.0.0.5:9000", "10.0.0.6:9000"].map(|a| a.parse().unwrap());
        assert_eq!(addresses.advertised(&configured), configured);
    }
}
