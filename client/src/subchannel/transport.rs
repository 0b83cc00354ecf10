//! What HTTP/2 runs on: a socket, or whatever a connector of one's own opens.

use std::fmt;
use std::io;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::endpoint::Address;

/// Opens byte streams to addresses: TCP and Unix sockets by default. One's own
/// can go through a proxy, over vsock, or stay in memory for a test.
pub trait Connect: Send + Sync + fmt::Debug + 'static {
    /// Opens a byte stream to `address`. Dropping the future gives up. The time it
    /// may take is bounded by the caller.
    fn connect(&self, address: &Address) -> BoxFuture<'static, io::Result<Box<dyn Transport>>>;

    /// Whether what it opens is encrypted already: then RPCs say so
    /// (`:scheme` is `https`). Default false.
    fn is_secure(&self) -> bool {
        false
    }
}

/// A byte stream in both directions.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// The sockets of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Connect for System {
    fn connect(&self, address: &Address) -> BoxFuture<'static, io::Result<Box<dyn Transport>>> {
        Box::pin(open(address.clone()))
    }
}

async fn open(address: Address) -> io::Result<Box<dyn Transport>> {
    match address {
        Address::Tcp(addr) => {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        #[cfg(unix)]
        Address::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(target_os = "linux")]
        Address::UnixAbstract(name) => {
            // Tokio takes a name that begins with NUL for an abstract one.
            let path = format!("\0{name}");
            Ok(Box::new(tokio::net::UnixStream::connect(path).await?))
        }
        #[allow(
            unreachable_patterns,
            reason = "reachable where there are no such sockets"
        )]
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system has no such sockets",
        )),
    }
}
