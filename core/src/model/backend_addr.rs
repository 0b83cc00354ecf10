//! The address of a backend.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

/// IP and port of a backend: what identifies it everywhere in the balancer.
///
/// An IPv4-mapped IPv6 address is the IPv4 backend; scope and flow label of
/// IPv6 are dropped, since a list entry cannot carry them. The port is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendAddr(SocketAddr);

/// Why a text or a socket address is no [`BackendAddr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBackendAddr {
    /// Not of the form `ip:port`.
    #[error(
        "`{0}` is no address; write ip:port, as 10.0.1.1:50051 or [2001:db8::1]:50051 (host names are not looked up)"
    )]
    Syntax(String),
    /// The port is 0.
    #[error("port 0 cannot be called; write 1 to 65535")]
    Port,
    /// The IP is the unspecified address, which names no host.
    #[error("{0} names no host; write the address that clients can call")]
    Unspecified(IpAddr),
}

impl BackendAddr {
    /// From a socket address.
    ///
    /// # Errors
    /// If the port is 0 or the IP unspecified.
    pub fn new(addr: SocketAddr) -> Result<Self, BadBackendAddr> {
        let ip = addr.ip().to_canonical();
        if addr.port() == 0 {
            return Err(BadBackendAddr::Port);
        }
        if ip.is_unspecified() {
            return Err(BadBackendAddr::Unspecified(ip));
        }
        Ok(Self(match ip {
            IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
            IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, addr.port(), 0, 0)),
        }))
    }

    /// The IP.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The port, 1 to 65535.
    #[must_use]
    pub fn port(self) -> u16 {
        self.0.port()
    }

    /// IP and port.
    #[must_use]
    pub fn socket_addr(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for BackendAddr {
    type Err = BadBackendAddr;

    fn from_str(text: &str) -> Result<Self, BadBackendAddr> {
        let addr: SocketAddr = text
            .parse()
            .map_err(|_| BadBackendAddr::Syntax(text.to_owned()))?;
        Self::new(addr)
    }
}

impl fmt::Display for BackendAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_and_scoped_addresses_are_the_plain_backend() {
        let mapped: BackendAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(mapped, "10.0.0.1:80".parse().unwrap());
        let scoped: BackendAddr = "[fe80::1%3]:80".parse().unwrap();
        assert_eq!(scoped, "[fe80::1]:80".parse().unwrap());
    }

    #[test]
    fn what_cannot_be_called_is_refused() {
        for bad in [
            "host:80",
            "10.0.0.1",
            "10.0.0.1:70000",
            "10.0.0.1:0",
            "0.0.0.0:80",
            "[::]:1",
            "",
        ] {
            assert!(bad.parse::<BackendAddr>().is_err(), "{bad}");
        }
    }
}
