//! What the balancer itself lacks for a connection, which says nothing of the backend.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustix::io::Errno;
use tokio::time::Instant;
use tracing::warn;

/// Each lack is logged once in so long.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// What the balancer has none left of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnFault {
    /// File descriptors of the process.
    Descriptors,
    /// Files of the whole system.
    Files,
    /// Memory, or buffers for sockets.
    Memory,
    /// A local address or port to connect from.
    Address,
    /// Its network interface is down.
    Network,
}

/// Counts and logs what was lacking. Clones are handles to the same.
#[derive(Debug, Clone, Default)]
pub struct OwnFaults {
    counts: Family<ReasonLabels, Counter>,
    logged: Arc<Mutex<Vec<(OwnFault, Instant)>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

impl OwnFault {
    /// All of them.
    const ALL: [Self; 5] = [
        Self::Descriptors,
        Self::Files,
        Self::Memory,
        Self::Address,
        Self::Network,
    ];

    /// What was lacking, if this is how a connection was not opened.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::MFILE => Some(Self::Descriptors),
            Errno::NFILE => Some(Self::Files),
            Errno::NOBUFS | Errno::NOMEM => Some(Self::Memory),
            Errno::ADDRNOTAVAIL => Some(Self::Address),
            Errno::NETDOWN => Some(Self::Network),
            _ => None,
        }
    }

    /// Its label in the metrics.
    fn reason(self) -> &'static str {
        match self {
            Self::Descriptors => "file_descriptors",
            Self::Files => "system_files",
            Self::Memory => "memory",
            Self::Address => "local_address",
            Self::Network => "network_down",
        }
    }
}

impl fmt::Display for OwnFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => {
                "the balancer has no file descriptors left; raise its limit (`ulimit -n`, \
                 LimitNOFILE= of systemd)"
            }
            Self::Files => "the system has no open files left; raise the sysctl fs.file-max",
            Self::Memory => {
                "the system has no memory left for sockets; give the balancer's host more, or \
                 raise the sysctl net.ipv4.tcp_mem"
            }
            Self::Address => {
                "the balancer has no local address or port left to connect from; raise the \
                 sysctl net.ipv4.ip_local_port_range, or give its host an address of the \
                 backend's family"
            }
            Self::Network => "the network interface of the balancer's host is down",
        })
    }
}

impl OwnFaults {
    /// Registers the metric.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let faults = Self::default();
        for fault in OwnFault::ALL {
            let reason = fault.reason();
            drop(faults.counts.get_or_create(&ReasonLabels { reason }));
        }
        registry.register(
            "own_faults",
            "Connections to backends that were not opened because the balancer itself lacked \
             what it takes, by what; they count for nothing against the backend",
            faults.counts.clone(),
        );
        faults
    }

    /// It happened.
    pub fn count(&self, fault: OwnFault) {
        let reason = fault.reason();
        self.counts.get_or_create(&ReasonLabels { reason }).inc();
        if self.may_log(fault) {
            warn!(
                "cannot connect to backends: {fault}; health and load of backends are not known \
                 meanwhile, and stay as they were"
            );
        }
    }

    fn may_log(&self, fault: OwnFault) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        logged.retain(|(_, at)| now.duration_since(*at) < LOG_PAUSE);
        let is_new = logged.iter().all(|(known, _)| *known != fault);
        if is_new {
            logged.push((fault, now));
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_balancer_lacks_is_known_from_what_a_backend_refuses() {
        for (errno, fault) in [
            (Errno::MFILE, Some(OwnFault::Descriptors)),
            (Errno::NFILE, Some(OwnFault::Files)),
            (Errno::NOBUFS, Some(OwnFault::Memory)),
            (Errno::NOMEM, Some(OwnFault::Memory)),
            (Errno::ADDRNOTAVAIL, Some(OwnFault::Address)),
            (Errno::NETDOWN, Some(OwnFault::Network)),
            (Errno::CONNREFUSED, None),
            (Errno::CONNRESET, None),
            (Errno::HOSTUNREACH, None),
            (Errno::TIMEDOUT, None),
        ] {
            assert_eq!(OwnFault::of(&errno.into()), fault, "{errno:?}");
        }
        assert_eq!(OwnFault::of(&io::ErrorKind::TimedOut.into()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_lack_is_logged_once_a_minute() {
        let faults = OwnFaults::default();
        assert!(faults.may_log(OwnFault::Descriptors));
        assert!(!faults.may_log(OwnFault::Descriptors));
        assert!(faults.may_log(OwnFault::Address));
        tokio::time::advance(LOG_PAUSE).await;
        assert!(faults.may_log(OwnFault::Descriptors));
    }
}
