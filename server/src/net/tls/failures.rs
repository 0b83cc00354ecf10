//! Handshakes that failed: why, in words, and not too often.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error};
use tokio::time::Instant;
use tracing::{debug, info};

/// A peer's failures are logged once in so long.
const PER_PEER: Duration = Duration::from_secs(10);

/// Lines in that time, whoever fails: a whole fleet may be wrong together.
const LINES: usize = 20;

/// Why a handshake failed.
#[derive(Debug)]
pub(in crate::net) enum Failed {
    /// The peer went before it had said anything, as probes by TCP do.
    Silent,
    /// For the operator of whichever side is wrong.
    Because(String),
}

/// Logs failures.
#[derive(Debug, Default)]
pub(in crate::net) struct Failures {
    window: Mutex<Window>,
}

/// What was logged lately.
#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    /// Whom there was a line about; bounded by `LINES`.
    peers: HashSet<IpAddr>,
    /// Failures without a line, of the window before and of this one.
    unlogged: u64,
}

impl Failed {
    /// While the client's first message was read.
    pub(super) fn before_hello(error: io::Error) -> Self {
        match cause(&error) {
            Some(Error::InvalidMessage(_)) => Self::Because(
                "it does not speak TLS, which this port wants; give the client TLS credentials, \
                 with the CA that signed the balancer's certificate"
                    .to_owned(),
            ),
            None => Self::Silent,
            Some(error) => Self::Because(error.to_string()),
        }
    }

    /// While it was answered.
    pub(super) fn after_hello(error: io::Error) -> Self {
        Self::Because(match cause(&error) {
            Some(Error::AlertReceived(alert)) => alerted(*alert),
            Some(Error::NoCertificatesPresented) => {
                "it shows no client certificate; this port wants one that a CA of client_ca has \
                 signed"
                    .to_owned()
            }
            Some(Error::InvalidCertificate(error)) => uncertified(error),
            Some(Error::NoApplicationProtocol) => WITHOUT_HTTP2.to_owned(),
            Some(Error::PeerIncompatible(_)) => {
                format!("{error}; this port has TLS 1.2 and 1.3 with the usual cipher suites")
            }
            None if error.kind() == ErrorKind::UnexpectedEof => {
                "it closed the connection during the handshake; perhaps it does not trust the \
                 balancer's certificate, or the certificate is not for the name that it called"
                    .to_owned()
            }
            _ => error.to_string(),
        })
    }

    pub(super) fn without_http2() -> Self {
        Self::Because(WITHOUT_HTTP2.to_owned())
    }
}

const WITHOUT_HTTP2: &str =
    "it does not ask for HTTP/2 (ALPN h2), which gRPC needs; is it a gRPC client?";

impl Failures {
    /// Logs it, unless there was enough to read.
    pub(in crate::net) fn log(&self, peer: SocketAddr, failed: &Failed) {
        let Failed::Because(reason) = failed else {
            debug!(%peer, "connection closed before a TLS handshake began");
            return;
        };
        match self.admit(peer.ip(), Instant::now()) {
            Some(0) => info!(%peer, reason, "TLS handshake failed"),
            Some(unlogged) => info!(%peer, reason, unlogged, "TLS handshake failed"),
            None => debug!(%peer, reason, "TLS handshake failed"),
        }
    }

    /// How many came before it without a line, if there may be one now.
    fn admit(&self, peer: IpAddr, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let over = window.began.is_none_or(|began| now - began >= PER_PEER);
        if over {
            window.began = Some(now);
            window.peers.clear();
        }
        if window.peers.contains(&peer) || window.peers.len() >= LINES {
            window.unlogged += 1;
            return None;
        }
        window.peers.insert(peer);
        Some(std::mem::take(&mut window.unlogged))
    }
}

fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What a client makes of the balancer's certificate.
fn alerted(alert: AlertDescription) -> String {
    let meaning = match alert {
        AlertDescription::UnknownCA => {
            "it does not trust the CA that signed the balancer's certificate; give the client that \
             CA"
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => {
            "it does not take the balancer's certificate: it does not trust its CA, or called the \
             balancer by a name that is not in it"
        }
        AlertDescription::CertificateExpired => {
            "the balancer's certificate has expired, or the client's clock is wrong"
        }
        AlertDescription::CertificateRevoked => "the balancer's certificate is revoked",
        _ => return format!("it ended the handshake with the alert {alert:?}"),
    };
    format!("{meaning} (alert {alert:?})")
}

/// What is wrong with a client's certificate.
fn uncertified(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is signed by no CA of client_ca (UnknownIssuer)".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; renew it".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; are the clocks right?".to_owned()
        }
        CertificateError::Revoked => "its certificate is revoked by client_crl".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for clients (extendedKeyUsage without clientAuth)".to_owned()
        }
        error => format!("its certificate is not valid: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_one_line_in_a_while_and_all_together_a_few() {
        let failures = Failures::default();
        let start = Instant::now();
        let peer = |n: u8| IpAddr::from([10, 0, 0, n]);
        assert_eq!(failures.admit(peer(0), start), Some(0));
        for _ in 0..5 {
            assert_eq!(failures.admit(peer(0), start), None);
        }
        assert_eq!(failures.admit(peer(1), start), Some(5));
        let lines = (2..=255).filter(|n| failures.admit(peer(*n), start).is_some());
        assert_eq!(lines.count(), LINES - 2);
        let later = start + PER_PEER;
        assert_eq!(
            failures.admit(peer(0), later),
            Some(254 - (LINES as u64 - 2))
        );
    }
}
