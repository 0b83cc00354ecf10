//! Whether a server is who was called.
//!
//! As rustls does it, and two things more: a certificate that is itself among those
//! that are trusted is taken though it calls itself a CA, as `openssl req -x509`
//! makes it and other TLS libraries take it; and a server may be known by a URI, as
//! SPIFFE has it.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

/// Verifies servers' certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) roots: Arc<RootCertStore>,
    /// The certificates that were given to be trusted; none if they are the
    /// system's.
    pub(super) given: Vec<CertificateDer<'static>>,
    /// The URI that the certificate must have, in place of the name.
    pub(super) uri: Option<String>,
    pub(super) provider: Arc<CryptoProvider>,
}

/// The certificate is not for the URI that was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotForUri {
    pub(super) presented: Vec<String>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let trusted = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        );
        match trusted {
            // webpki finds this after it has found the certificate to be valid now.
            Err(error) if is_ca(&error) && self.given.contains(end_entity) => {}
            trusted => trusted?,
        }
        match &self.uri {
            None => verify_server_name(&certificate, server_name)?,
            Some(uri) => verify_uri(end_entity, uri)?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Whether a certificate was refused for calling itself a CA.
pub(super) fn is_ca(error: &Error) -> bool {
    other(error) == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// What webpki says that rustls has no word for, or what is said here.
pub(super) fn other<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            other.downcast_ref()
        }
        _ => None,
    }
}

fn verify_uri(certificate: &CertificateDer<'_>, uri: &str) -> Result<(), Error> {
    let certificate = webpki::EndEntityCert::try_from(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    if certificate.valid_uri_names().any(|name| name == uri) {
        return Ok(());
    }
    let uris = certificate.valid_uri_names().map(str::to_owned);
    let names = certificate.valid_dns_names().map(str::to_owned);
    let not_for_uri = NotForUri {
        presented: uris.chain(names).collect(),
    };
    let other = OtherError(Arc::new(not_for_uri));
    Err(Error::InvalidCertificate(CertificateError::Other(other)))
}

impl fmt::Display for NotForUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let presented = &self.presented;
        write!(f, "the certificate has another URI: {presented:?}")
    }
}

impl std::error::Error for NotForUri {}
