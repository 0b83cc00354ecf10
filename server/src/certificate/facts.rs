//! What stands in one certificate.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Names that are shown of a certificate; one may have hundreds.
const SHOWN: usize = 8;

/// Bytes of a subject that are shown.
const SUBJECT: usize = 256;

/// What people want to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its subject, as `CN=…,O=…`; printable, and cut.
    pub subject: String,
    /// Host names and URIs that it is for, the first few.
    pub names: Vec<String>,
    /// When it expires.
    pub not_after: SystemTime,
}

impl Facts {
    /// Reads a certificate; `None` if it cannot be read, which is for whoever uses it to
    /// say.
    #[must_use]
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let certificate = certificate.tbs_certificate();
        let subject = certificate.subject().to_string();
        let subject: String = subject.chars().take(SUBJECT).collect();
        Some(Self {
            subject: subject.escape_debug().to_string(),
            names: names(der),
            not_after: certificate.validity().not_after.to_system_time(),
        })
    }
}

/// The host names and URIs that a certificate is for, the first few; printable.
#[must_use]
pub fn names(der: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(der) else {
        return Vec::new();
    };
    let names = certificate.valid_dns_names();
    let names = names.chain(certificate.valid_uri_names()).take(SHOWN);
    names.map(|name| name.escape_debug().to_string()).collect()
}
