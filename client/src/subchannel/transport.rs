//! What HTTP/2 runs on: a socket, or whatever a connector of one's own opens.

use std::fmt;
use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
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
pub struct System {
    keepalive: Option<Duration>,
    user_timeout: Option<Duration>,
}

/// Most seconds that Linux takes between two probes.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(32_767);

impl System {
    /// Has TCP probe a connection that was silent for `interval`, and again every
    /// `interval` until there is an answer: `SO_KEEPALIVE`. From 1 s to 32 767 s, whole
    /// seconds; [`Duration::MAX`] is never, as is the default.
    #[must_use]
    pub fn keepalive(mut self, interval: Duration) -> Self {
        self.keepalive = (interval != Duration::MAX).then_some(interval);
        self
    }

    /// Ends a TCP connection when what was sent is not acknowledged for `timeout`:
    /// `TCP_USER_TIMEOUT`, which only Linux has. From 1 ms to 49 days;
    /// [`Duration::MAX`] is never, that is as long as the system's retransmissions last
    /// (about 15 minutes), as is the default.
    #[must_use]
    pub fn user_timeout(mut self, timeout: Duration) -> Self {
        self.user_timeout = (timeout != Duration::MAX).then_some(timeout);
        self
    }

    /// The same, with this user timeout if none was set.
    pub(crate) fn or_user_timeout(self, timeout: Duration) -> Self {
        match self.user_timeout {
            Some(_) => self,
            None => self.user_timeout(timeout),
        }
    }

    fn set_up(self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        if let Some(interval) = self.keepalive {
            let interval = interval.clamp(Duration::from_secs(1), LONGEST_KEEPALIVE);
            let probes = TcpKeepalive::new().with_time(interval);
            #[cfg(any(target_os = "linux", target_vendor = "apple", windows))]
            let probes = probes.with_interval(interval);
            socket.set_tcp_keepalive(&probes)?;
        }
        #[cfg(target_os = "linux")]
        if let Some(timeout) = self.user_timeout {
            let longest = Duration::from_millis(u32::MAX.into());
            let timeout = timeout.clamp(Duration::from_millis(1), longest);
            socket.set_tcp_user_timeout(Some(timeout))?;
        }
        Ok(())
    }
}

impl Connect for System {
    fn connect(&self, address: &Address) -> BoxFuture<'static, io::Result<Box<dyn Transport>>> {
        Box::pin(open(*self, address.clone()))
    }
}

async fn open(system: System, address: Address) -> io::Result<Box<dyn Transport>> {
    match address {
        Address::Tcp(addr) => {
            let stream = TcpStream::connect(addr).await?;
            system.set_up(&stream)?;
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn set_up(system: System) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let stream = stream.unwrap();
        system.set_up(&stream).unwrap();
        stream
    }

    #[tokio::test]
    async fn sockets_probe_and_give_up_as_they_are_set() {
        let second = Duration::from_secs(1);
        let stream = set_up(System::default()).await;
        assert!(!SockRef::from(&stream).keepalive().unwrap());
        for (wanted, set) in [
            (Duration::ZERO, second),
            (7 * second, 7 * second),
            (Duration::from_secs(u64::MAX), LONGEST_KEEPALIVE),
        ] {
            let stream = set_up(System::default().keepalive(wanted)).await;
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), set);
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_user_timeout_is_the_sockets() {
        let set = async |system| {
            let stream = set_up(system).await;
            SockRef::from(&stream).tcp_user_timeout().unwrap()
        };
        let second = Duration::from_secs(1);
        let none = set(System::default()).await;
        assert!(none.is_none_or(|timeout| timeout.is_zero()), "{none:?}");
        let own = System::default().user_timeout(3 * second);
        assert_eq!(set(own).await, Some(3 * second));
        assert_eq!(set(own.or_user_timeout(second)).await, Some(3 * second));
        let other = System::default().or_user_timeout(second);
        assert_eq!(set(other).await, Some(second));
    }

    #[tokio::test]
    async fn the_longest_time_is_never() {
        let never = System::default().keepalive(Duration::MAX);
        let stream = set_up(never.user_timeout(Duration::MAX)).await;
        assert!(!SockRef::from(&stream).keepalive().unwrap());
    }
}
