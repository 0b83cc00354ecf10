//! What can go wrong before there is an RPC to fail. An RPC itself fails with a
//! [`tonic::Status`], whose message carries the same texts.

mod connect;

pub use self::connect::{ConnectError, ConnectErrorKind};

/// Why a target names nothing that can be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("target {target:?}: {reason}")]
pub struct TargetError {
    /// The target as given.
    pub target: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

/// Why names could not be turned into addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResolveError(pub String);

/// Why [`Builder::connect`](crate::Builder::connect) gave no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The target is malformed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The address given to [`Builder::balancer`](crate::Builder::balancer) is
    /// malformed.
    #[error("balancer {address:?}: {reason}")]
    Balancer {
        /// The address as given.
        address: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// A value given to the builder cannot be sent as an HTTP header.
    #[error("{what} {value:?} has characters that an HTTP header cannot carry")]
    Header {
        /// Which setting.
        what: &'static str,
        /// The value as given.
        value: String,
    },
    /// A certificate, key or name that is given for TLS cannot be used; the text
    /// says which, and to which setting.
    #[cfg(feature = "tls")]
    #[error("{0}")]
    Tls(String),
    /// No name resolution could be set up.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The proxy given to [`Builder::proxy`](crate::Builder::proxy), or by the
    /// environment, cannot be used.
    #[error("proxy {proxy:?}: {reason}")]
    Proxy {
        /// The proxy as given, without user and password.
        proxy: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// There is no tokio runtime on this thread, and a channel has to have one.
    #[error(
        "a channel needs a tokio runtime to run on: call Builder::connect and \
         Builder::connect_lazy inside one, e.g. under #[tokio::main] or Runtime::enter"
    )]
    NoRuntime,
    /// No connection came about; the text says to where and why.
    #[error(transparent)]
    Connect(ConnectError),
}
