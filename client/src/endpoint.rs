//! Where a backend can be reached, what the resolver knows about it, and the
//! states of the way there.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use http::HeaderValue;

/// An address that a connection can be opened to. Two equal addresses share one
/// connection, however often they are listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Address {
    /// IP address and port. IPv4-mapped IPv6 counts as IPv4.
    Tcp(SocketAddr),
    /// Unix domain socket in the file system.
    Unix(PathBuf),
    /// Unix domain socket in Linux's abstract namespace, without the leading
    /// NUL.
    UnixAbstract(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixAbstract(name) => write!(f, "unix-abstract:{name}"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(match addr.ip().to_canonical() {
            ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
            // With its zone, if it has one.
            IpAddr::V6(_) => addr,
        })
    }
}

/// One turn in the resolver's or the balancer's list: where to call, and with
/// which attributes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Endpoint {
    /// Where to connect.
    pub address: Address,
    /// Share relative to the other endpoints, for policies that weigh. Above 0;
    /// 1 unless the resolver says otherwise.
    pub weight: f64,
    /// Zone the backend runs in, if known.
    pub zone: Option<String>,
    /// Whether the backend wants no new calls.
    pub draining: bool,
    /// What RPCs to this entry carry as `lb-token`; only a balancer sets it.
    pub(crate) lb_token: Option<HeaderValue>,
}

impl Endpoint {
    /// An endpoint with weight 1 and no attributes.
    #[must_use]
    pub fn new(address: impl Into<Address>) -> Self {
        Self {
            address: address.into(),
            weight: 1.0,
            zone: None,
            draining: false,
            lb_token: None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr)
    }
}

/// The states of a channel, as in gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectivityState {
    /// Nothing is under way.
    Idle,
    /// Addresses or connections are on their way; RPCs wait.
    Connecting,
    /// RPCs are sent.
    Ready,
    /// Nothing can be reached at the moment; RPCs fail, unless they are
    /// [`WaitForReady`](crate::WaitForReady).
    TransientFailure,
    /// The channel has ended.
    Shutdown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_address_is_the_same_backend() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        let plain: SocketAddr = "10.0.0.1:80".parse().unwrap();
        assert_eq!(Address::from(mapped), Address::from(plain));
        assert_eq!(Address::from(mapped).to_string(), "10.0.0.1:80");
    }
}
