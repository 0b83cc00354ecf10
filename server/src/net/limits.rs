//! What one process and one peer may take.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors left to everything that is no client connection: files,
/// probes, DNS, the admin port.
const RESERVED_DESCRIPTORS: u64 = 256;

/// Limits on connections and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// Connections at one time from one IP address, of IPv6 from one network of 64
    /// bits. Whole sites can stand behind one address, so this only keeps a single
    /// peer from taking all.
    pub connections_per_peer: usize,
    /// Connections to the admin port at one time, out of what is left to others.
    pub admin_connections: usize,
    /// HTTP/2 streams at one time on one connection.
    pub streams_per_connection: u32,
    /// Time for the TLS handshake and the HTTP/2 preface together.
    pub handshake_timeout: Duration,
    /// A PING goes out after a connection was silent for this long.
    pub keepalive_interval: Duration,
    /// And the connection is closed if the PING is not answered for this long.
    pub keepalive_timeout: Duration,
    /// A connection is closed when there are bytes to send and the peer takes
    /// none of them for this long.
    pub stall_timeout: Duration,
}

impl Limits {
    /// The defaults for a process that may open `descriptors` files: all but a
    /// reserve may be connections, and three quarters of them of one peer.
    #[must_use]
    pub fn for_descriptors(descriptors: u64) -> Self {
        let reserve = RESERVED_DESCRIPTORS.min(descriptors / 4);
        let connections = usize::try_from(descriptors - reserve).unwrap_or(usize::MAX);
        Self {
            connections,
            connections_per_peer: connections - connections / 4,
            admin_connections: usize::try_from(reserve / 4).unwrap_or(1).max(4),
            streams_per_connection: 100,
            handshake_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

impl Default for Limits {
    /// The defaults for what the process may open now.
    fn default() -> Self {
        let current = getrlimit(Resource::Nofile).current;
        Self::for_descriptors(current.unwrap_or(u64::MAX))
    }
}

/// How many files a process may open (`ulimit -n`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nofile {
    /// Before [`raise_nofile`]; `None` is without limit.
    pub before: Option<u64>,
    /// Now.
    pub now: Option<u64>,
}

/// Raises the number of files this process may open to the most it is allowed.
///
/// # Errors
/// If the kernel refuses; then the limit is as before.
pub fn raise_nofile() -> io::Result<Nofile> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(Nofile {
        before: limit.current,
        now: getrlimit(Resource::Nofile).current,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_left_whatever_the_limit() {
        for descriptors in [0, 1, 64, 1024, 20_000, u64::MAX] {
            let limits = Limits::for_descriptors(descriptors);
            let connections = u64::try_from(limits.connections).unwrap();
            assert!(connections <= descriptors);
            assert!(connections < descriptors || descriptors < 4);
            assert!(limits.connections_per_peer <= limits.connections);
        }
    }

    #[test]
    fn raising_the_limit_twice_is_raising_it_once() {
        let first = raise_nofile().unwrap();
        let second = raise_nofile().unwrap();
        assert_eq!(second.before, first.now);
        assert_eq!(second.now, first.now);
    }
}
