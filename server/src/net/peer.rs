//! Who is at the other end of a connection.

use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

/// The other end of a connection. Every request has an `Arc<Peer>` among its
/// extensions.
#[derive(Debug)]
pub struct Peer {
    /// Its address; an IPv4-mapped IPv6 address is given as IPv4.
    pub addr: SocketAddr,
    /// Cancel it to close the connection at once, with all its streams.
    pub connection: CancellationToken,
    /// Cancelled when the certificates it showed are no longer trusted: CA or revocation
    /// list have changed. The connection ends soon after.
    pub untrusted: CancellationToken,
    /// The certificates it showed, leaf first; none without TLS or if it was
    /// not asked for any. They have been verified.
    pub certificates: Option<Vec<CertificateDer<'static>>>,
}
