//! A listening socket, tuned for many long-lived streams.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel may hold that are not accepted yet. It cuts this at
/// `net.core.somaxconn`; asking for more than that costs nothing.
const BACKLOG: i32 = 65_535;

/// Bytes per connection that the kernel takes before the peer's window has
/// room for them. Unbounded it would hold megabytes of outdated lists for a
/// client that does not read; this much costs no throughput.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// A bound, listening TCP socket. [`super::serve`] accepts from it; until then
/// the kernel queues connections.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: std::net::TcpListener,
    local_addr: SocketAddr,
}

impl Listener {
    /// Binds and listens. Port 0 takes a free one; `[::]` takes IPv4 too.
    ///
    /// # Errors
    /// If the address cannot be bound; the error names it.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let explain = |error: io::Error| cannot_listen(addr, &error);
        let socket = listen(addr).map_err(explain)?;
        let local_addr = socket.local_addr().map_err(explain)?;
        Ok(Self { socket, local_addr })
    }

    /// Where it listens, with the port it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// Why a port cannot be bound: names the address, and says what would be right.
#[must_use]
pub fn cannot_listen(addr: impl fmt::Display, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process listens there: stop it (`ss -lnptu` shows it), or write another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have the address: write one that it has, or 0.0.0.0 or [::] \
             for all"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE: grant it, or write a \
             higher port"
        }
        _ => "",
    };
    io::Error::new(
        error.kind(),
        format!("cannot listen on {addr}: {error}{hint}"),
    )
}

fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if let SocketAddr::V6(v6) = addr
        && v6.ip().is_unspecified()
    {
        socket.set_only_v6(false)?;
    }
    // A restarted balancer must not wait for the old one's connections to
    // leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit both of these.
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_0_takes_a_free_port() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(listener.local_addr().port(), 0);
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = Listener::bind(first.local_addr()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let error = error.to_string();
        let addr = first.local_addr().to_string();
        assert!(error.contains(&addr), "{error}");
        assert!(error.contains("write another port"), "{error}");
    }

    #[test]
    fn the_v6_wildcard_takes_v4_clients() {
        // A host without IPv6 cannot show it.
        let Ok(listener) = Listener::bind("[::]:0".parse().unwrap()) else {
            return;
        };
        let port = listener.local_addr().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}
