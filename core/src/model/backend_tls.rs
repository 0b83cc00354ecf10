//! How the balancer calls backends that speak TLS.

use std::path::PathBuf;

/// TLS towards backends: which PEM files, and who is expected. What is in the files
/// is whoever's that calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendTls {
    /// The certificates that are trusted; those of the operating system if absent.
    pub ca: Option<PathBuf>,
    /// What is shown to backends that ask for a certificate; nothing if absent.
    pub identity: Option<TlsIdentity>,
    /// A host name, an IP address or a SPIFFE ID that the certificate must be for.
    /// Default: what the backend is called.
    pub server_name: Option<String>,
}

/// A certificate chain and its private key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsIdentity {
    /// Leaf first.
    pub cert: PathBuf,
    /// Of the leaf.
    pub key: PathBuf,
}
