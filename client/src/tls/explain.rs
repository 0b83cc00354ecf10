//! What went wrong in a handshake, in words for whoever has to mend it.

use std::io::{self, ErrorKind};
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use super::HandshakeFault;
use super::verify::{NotForUri, is_ca, other};

/// Names of a certificate that are shown; one may have hundreds.
const SHOWN: usize = 8;

/// What is at fault, and a sentence about a server that was expected to be called
/// `expected`.
pub(super) fn server(error: &io::Error, expected: &str) -> (HandshakeFault, String) {
    match cause(error) {
        Some(Error::InvalidMessage(_)) => (
            HandshakeFault::NotTls,
            "its answer is not TLS (does the server speak TLS at all?)".to_owned(),
        ),
        Some(Error::InvalidCertificate(certificate)) => {
            of_certificate(certificate, error, expected)
        }
        Some(Error::AlertReceived(alert)) => of_alert(*alert, error),
        Some(Error::PeerIncompatible(_)) => (
            HandshakeFault::Other,
            format!("{error}; it needs TLS 1.2 or 1.3 with a usual cipher suite"),
        ),
        None if error.kind() == ErrorKind::UnexpectedEof => (
            HandshakeFault::NotTls,
            format!("{error} (the server closed the connection; does it speak TLS?)"),
        ),
        _ => (HandshakeFault::Other, error.to_string()),
    }
}

/// The same of what breaks a connection behind the handshake; nothing if it is not
/// TLS that does.
pub(super) fn behind(error: &io::Error) -> Option<String> {
    match cause(error)? {
        Error::AlertReceived(alert) => Some(of_alert(*alert, error).1),
        _ => None,
    }
}

fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn of_certificate(
    error: &CertificateError,
    whole: &io::Error,
    expected: &str,
) -> (HandshakeFault, String) {
    let not_for = |presented: &[String], what: &str| {
        let shown = shown(presented);
        format!(
            "its certificate is for {shown}, not for {expected}; expect another name, or issue \
             the certificate with this {what} as a subjectAltName"
        )
    };
    if let Some(tls) = cause(whole) {
        if is_ca(tls) {
            let why = "its certificate is a CA's (basicConstraints CA:TRUE), self-signed perhaps, \
                       and is itself not among the trusted; trust this very certificate as the \
                       CA, or give the server one with CA:FALSE";
            return (HandshakeFault::Untrusted, why.to_owned());
        }
        if let Some(NotForUri { presented }) = other(tls) {
            return (HandshakeFault::Name, not_for(presented, "URI"));
        }
        if other(tls) == Some(&webpki::Error::UnsupportedCertVersion) {
            let why = "its certificate is of X.509 version 1; issue one of version 3, with \
                       subjectAltName";
            return (HandshakeFault::Other, why.to_owned());
        }
    }
    match error {
        CertificateError::UnknownIssuer => (
            HandshakeFault::Untrusted,
            "its certificate is signed by no CA that is trusted here (UnknownIssuer); trust the \
             CA that signed it, and let the server send its intermediate certificates"
                .to_owned(),
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            (HandshakeFault::Name, not_for(presented, "name"))
        }
        CertificateError::ExpiredContext { time, not_after } => {
            let since = between(*not_after, *time);
            let why = format!("its certificate expired {since} ago; renew it");
            (HandshakeFault::Time, why)
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let until = between(*time, *not_before);
            let why =
                format!("its certificate is not valid for another {until}; are the clocks right?");
            (HandshakeFault::Time, why)
        }
        _ => (HandshakeFault::Other, whole.to_string()),
    }
}

fn of_alert(alert: AlertDescription, error: &io::Error) -> (HandshakeFault, String) {
    let (fault, meaning) = match alert {
        AlertDescription::CertificateRequired => (
            HandshakeFault::Client,
            "it wants a client certificate, and was shown none; give one with its key",
        ),
        AlertDescription::UnknownCA => (
            HandshakeFault::Client,
            "it does not trust the CA that signed the client certificate",
        ),
        AlertDescription::CertificateExpired => (
            HandshakeFault::Client,
            "the client certificate expired; renew it",
        ),
        AlertDescription::CertificateRevoked => {
            (HandshakeFault::Client, "the client certificate is revoked")
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => (
            HandshakeFault::Client,
            "it does not take the client certificate, or wants one and was shown none",
        ),
        AlertDescription::HandshakeFailure => (
            HandshakeFault::Other,
            "it wants a client certificate, or no cipher suite suits both",
        ),
        AlertDescription::ProtocolVersion => {
            (HandshakeFault::Other, "it has neither TLS 1.2 nor 1.3")
        }
        AlertDescription::NoApplicationProtocol => (
            HandshakeFault::Other,
            "it does not offer HTTP/2, ALPN h2, which gRPC needs",
        ),
        AlertDescription::UnrecognisedName => {
            (HandshakeFault::Name, "it has no certificate for this name")
        }
        _ => return (HandshakeFault::Other, error.to_string()),
    };
    (fault, format!("{error} ({meaning})"))
}

fn shown(names: &[String]) -> String {
    let first: Vec<String> = names.iter().take(SHOWN).map(|name| bare(name)).collect();
    match names.len().saturating_sub(SHOWN) {
        _ if names.is_empty() => "no name at all".to_owned(),
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// rustls shows names as `DnsName("a.test")` and `IpAddress(10.0.0.1)`.
fn bare(name: &str) -> String {
    let inner = name.strip_suffix(')').and_then(|name| name.split_once('('));
    let name = inner.map_or(name, |(_, inner)| inner);
    name.trim_matches('"').escape_debug().to_string()
}

fn between(from: UnixTime, to: UnixTime) -> String {
    let seconds = Duration::from_secs(to.as_secs().saturating_sub(from.as_secs())).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
