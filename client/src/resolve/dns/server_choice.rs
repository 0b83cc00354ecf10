//! Whom a DNS client asks, for the texts of what goes wrong.

use std::net::SocketAddr;

/// Whom a DNS client asks. As text it stands behind "looked up".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum ServerChoice {
    /// The servers that the system is configured for.
    System,
    /// One server, which the target names.
    Server(SocketAddr),
}

impl ServerChoice {
    /// What may be wrong with a server that answers, but not with the service.
    pub(super) fn doubt(self) -> &'static str {
        match self {
            Self::System => "do these servers know the service?",
            Self::Server(_) => "does this server know the service?",
        }
    }
}

impl std::fmt::Display for ServerChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System => f.write_str("by the system's servers"),
            Self::Server(addr) => write!(f, "at {addr}"),
        }
    }
}
