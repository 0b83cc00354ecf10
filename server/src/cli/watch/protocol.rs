//! What a port speaks: TLS or not.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A port that answers at all answers in less.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tls,
    Plaintext,
}

/// What the port at `address` answers to the beginning of a TLS handshake; `None` if
/// nothing, or neither.
pub(super) async fn spoken_at(address: &str) -> Option<Protocol> {
    let hello = hello()?;
    let answered = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(&hello).await?;
        socket.read_u8().await
    };
    match timeout(PATIENCE, answered).await.ok()?.ok()? {
        // A record of a handshake, or an alert.
        0x15 | 0x16 => Some(Protocol::Tls),
        // HTTP/2 begins with the length of a frame, HTTP/1 with its name.
        0x00 | b'H' => Some(Protocol::Plaintext),
        _ => None,
    }
}

/// The beginning of a handshake that is not gone on with: nothing is trusted.
fn hello() -> Option<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("lookaside.invalid").ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).ok()?;
    Some(hello)
}
