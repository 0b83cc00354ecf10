//! TLS towards backends and balancers, by rustls (feature `tls`).
//!
//! What a channel trusts, and what it shows, is said separately for the two: see
//! [`Builder::tls`](crate::Builder::tls) and
//! [`Builder::balancer_tls`](crate::Builder::balancer_tls).

mod explain;
pub mod pem;
mod secured;
mod verify;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

pub use self::secured::Secured;
use self::verify::Verifier;

/// Whom to trust and what to show. Without more it trusts the certificate
/// authorities of the operating system, shows no certificate, and expects the
/// name that the channel calls.
///
/// ```
/// use lookaside_client::{Channel, ClientTls};
///
/// # fn example(ca: &[u8], cert: &[u8], key: &[u8]) {
/// let builder = Channel::builder("dns:///greeter.example.com")
///     // Backends have public certificates, ...
///     .tls(ClientTls::new())
///     // ... the balancer one of our own CA, and it wants to see ours.
///     .balancer_tls(ClientTls::new().ca_pem(ca).identity_pem(cert, key));
/// # }
/// ```
///
/// PEM that cannot be used, and a name that cannot be in a certificate, are
/// errors of [`Builder::connect`](crate::Builder::connect) and
/// [`Builder::connect_lazy`](crate::Builder::connect_lazy).
#[derive(Clone, Default)]
pub struct ClientTls {
    ca: Vec<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
    ready: Option<ClientConfig>,
}

/// What is spoken over TLS: both sides have to agree on it (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2, on which gRPC runs. A server has to offer it.
    Http2,
    /// HTTP/1.1. A server need not offer it.
    Http1,
}

/// What cannot be used of a [`ClientTls`]; a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

impl ClientTls {
    /// Trusts the operating system's certificate authorities, or those that the
    /// environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name. They are
    /// read once a process, when the first channel that needs them is built.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts what `config` trusts and shows what it shows: for verifiers,
    /// resumption or crypto of one's own. Its ALPN protocols are replaced by
    /// `h2`; [`Self::ca_pem`] and [`Self::identity_pem`] do not change it.
    #[must_use]
    pub fn from_config(config: ClientConfig) -> Self {
        Self {
            ready: Some(config),
            ..Self::default()
        }
    }

    /// Trusts the certificates in `pem`, one or more, instead of the operating
    /// system's; called again, also these. A server's own, self-signed one may be
    /// among them.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca.push(pem.into());
        self
    }

    /// Shows a certificate to servers that ask for one: in `cert` the client's
    /// own, then those that lead to its CA; in `key` the private key. Both PEM.
    #[must_use]
    pub fn identity_pem(mut self, cert: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((cert.into(), key.into()));
        self
    }

    /// Expects `name` in the server's certificate, instead of the name that is
    /// called: a host name, an IP address, or a SPIFFE ID
    /// (`spiffe://example.org/greeter`), which is compared with the certificate's
    /// URIs.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Reads all PEM, to call a server by the name `server` (unless another one was
    /// given) and speak `protocol` with it.
    ///
    /// # Errors
    /// If something cannot be used.
    pub fn prepare(self, server: &str, protocol: Protocol) -> Result<Tls, TlsError> {
        self.prepared(server, protocol).map_err(TlsError)
    }

    fn prepared(self, server: &str, protocol: Protocol) -> Result<Tls, String> {
        let expected = self.server_name.as_deref().map(Expected::parse);
        let expected = expected.transpose()?;
        let uri = match &expected {
            Some(Expected::Uri(uri)) => Some(uri.clone()),
            _ => None,
        };
        let mut config = match self.ready {
            Some(_) if uri.is_some() => {
                return Err(
                    "a server that is known by a URI needs a verifier for it: leave out \
                            server_name where the ClientConfig has one, or use ca_pem"
                        .to_owned(),
                );
            }
            Some(config) => config,
            None => config(&self.ca, self.identity, uri)?,
        };
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(config)),
            protocol,
            expected,
            server: server.into(),
        })
    }
}

/// Not what is in it: a key is.
impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// A [`ClientTls`] that was found to be usable.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    protocol: Protocol,
    /// What the certificate has to be for, whoever is called.
    expected: Option<Expected>,
    /// Who is called.
    server: Arc<str>,
}

/// Why a handshake failed: a sentence that names who was expected, what is wrong, and
/// what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct HandshakeError {
    /// What is at fault, for who knows where it is set.
    pub fault: HandshakeFault,
    text: String,
}

/// What is at fault when a handshake fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeFault {
    /// The server speaks something else than TLS.
    NotTls,
    /// Its certificate is not trusted.
    Untrusted,
    /// Its certificate is for another name than was expected, or there is no name that
    /// could be.
    Name,
    /// Its certificate has expired, or is not valid yet.
    Time,
    /// It does not take the client's certificate, or misses one.
    Client,
    /// Anything else.
    Other,
}

/// What a certificate has to be for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Name(ServerName<'static>),
    Uri(String),
}

impl Tls {
    /// The same, to call `server`.
    #[must_use]
    pub fn to(&self, server: &str) -> Self {
        Self {
            server: server.into(),
            ..self.clone()
        }
    }

    /// Does the handshake over `socket`.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub async fn handshake<S>(&self, socket: S) -> Result<Secured<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (name, expected) = match &self.expected {
            Some(Expected::Name(name)) => (name.clone(), format!("{:?}", name.to_str())),
            Some(Expected::Uri(uri)) => {
                // Its name is not asked about, but many servers stand behind one port.
                let name = parse_name(&self.server);
                let name = name.unwrap_or_else(|_| IpAddr::from([0; 4]).into());
                (name, format!("{uri:?}"))
            }
            None => {
                let name = parse_name(&self.server).map_err(|text| HandshakeError {
                    fault: HandshakeFault::Name,
                    text,
                })?;
                let expected = format!("{:?}", name.to_str());
                (name, expected)
            }
        };
        let failed = |(fault, why): (HandshakeFault, String)| HandshakeError {
            fault,
            text: format!("TLS handshake with a server called {expected}: {why}"),
        };
        let stream = self.connector.connect(name, socket).await;
        let stream = stream.map_err(|error| failed(explain::server(&error, &expected)))?;
        match (self.protocol, stream.get_ref().1.alpn_protocol()) {
            (Protocol::Http1, None) => {}
            (protocol, agreed) if agreed == Some(protocol.alpn()) => {}
            _ => {
                let why = "it does not offer HTTP/2 (ALPN h2), which gRPC needs";
                return Err(failed((HandshakeFault::Other, why.to_owned())));
            }
        }
        Ok(Secured::new(stream))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("expected", &self.expected)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Protocol {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }
}

impl Expected {
    fn parse(name: &str) -> Result<Self, String> {
        if is_spiffe_id(name) {
            return Ok(Self::Uri(name.to_owned()));
        }
        parse_name(name).map(Self::Name)
    }
}

/// Whether `name` is a SPIFFE ID, `spiffe://TRUST-DOMAIN/PATH`, which stands in
/// certificates as a URI.
#[must_use]
pub fn is_spiffe_id(name: &str) -> bool {
    let Some(id) = name.strip_prefix("spiffe://") else {
        return false;
    };
    let (domain, path) = id.split_once('/').unwrap_or((id, "root"));
    let of_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let of_path = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let segment =
        |segment: &str| !["", ".", ".."].contains(&segment) && segment.bytes().all(of_path);
    !domain.is_empty()
        && domain.bytes().all(of_domain)
        && name.len() <= 2048
        && path.split('/').all(segment)
}

/// A host as it stands in a target or an SRV record: perhaps an IPv6 address in
/// brackets, or a name with its trailing dot.
fn parse_name(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let bare = bare.unwrap_or(host).trim_end_matches('.');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(ServerName::from(ip.to_canonical()));
    }
    ServerName::try_from(bare.to_owned()).map_err(|_| {
        format!(
            "{host:?} cannot be the name in a certificate: a host name, an IP address or a SPIFFE \
             ID (spiffe://example.org/greeter) can"
        )
    })
}

fn config(
    ca: &[Vec<u8>],
    identity: Option<(Vec<u8>, Vec<u8>)>,
    uri: Option<String>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let mut given = Vec::new();
    for text in ca {
        let certificates = pem::certificates(text);
        given.extend(certificates.map_err(|error| format!("the CA to trust has {error}"))?);
    }
    let verifier = Verifier {
        roots: roots(&given)?,
        given,
        uri,
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((cert, key)) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = pem::certificates(&cert);
    let chain = chain.map_err(|error| format!("the client's certificate has {error}"))?;
    let key = pem::private_key(&key).map_err(|error| format!("the client's key has {error}"))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| {
        let why = pair_error(&error);
        format!("the client's certificate cannot be used with its key: {why}")
    })
}

/// Why a certificate and a key do not do together.
#[must_use]
pub fn pair_error(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "the key is another certificate's".to_owned(),
        rustls::Error::General(_) => format!(
            "{error}; a key is RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384, or Ed25519"
        ),
        error => error.to_string(),
    }
}

/// Those that are `given`; if none are, the operating system's.
fn roots(given: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, String> {
    if given.is_empty() {
        return system_roots();
    }
    let mut roots = RootCertStore::empty();
    for certificate in given {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("the CA to trust cannot be used: {error}"))?;
    }
    Ok(Arc::new(roots))
}

/// The operating system's, hundreds of certificates: read once, unless that failed.
fn system_roots() -> Result<Arc<RootCertStore>, String> {
    static READ: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(read) = READ.get() {
        return Ok(Arc::clone(read));
    }
    let system = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old stores hold certificates that cannot be used; that is no news.
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        let errors = system.errors.iter().map(|error| format!(": {error}"));
        return Err(format!(
            "the system trusts no certificate authority; install its CA certificates, or \
             give one with ClientTls::ca_pem{}",
            errors.collect::<String>()
        ));
    }
    Ok(Arc::clone(READ.get_or_init(|| Arc::new(roots))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_cas_are_read_once_a_process() {
        // Where there are none, the next channel looks again.
        if let Ok(first) = roots(&[]) {
            assert!(Arc::ptr_eq(&first, &roots(&[]).unwrap()));
        }
    }

    #[test]
    fn hosts_of_every_form_are_names() {
        for (host, name) in [
            ("lb.example.com", "lb.example.com"),
            ("lb.example.com.", "lb.example.com"),
            ("10.0.0.1", "10.0.0.1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[::ffff:10.0.0.1]", "10.0.0.1"),
            ("under_score.local", "under_score.local"),
        ] {
            assert_eq!(parse_name(host).unwrap().to_str(), name);
        }
        for host in ["", ".", "a b", "a/b", "[::1"] {
            let error = parse_name(host).unwrap_err();
            assert!(error.contains("certificate"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let key = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let params = rcgen::CertificateParams::new(["client".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let good = ClientTls::new().ca_pem(cert.clone());
        assert!(good.clone().prepare("x", Protocol::Http2).is_ok());
        assert!(
            good.clone()
                .identity_pem(&*cert, &*key)
                .prepare("x", Protocol::Http2)
                .is_ok()
        );
        for (tls, wanted) in [
            (ClientTls::new().ca_pem("nonsense"), "the CA to trust"),
            (good.clone().ca_pem(""), "the CA to trust"),
            (good.clone().identity_pem("", &*key), "certificate"),
            (good.clone().identity_pem(&*cert, ""), "private key"),
            (good.clone().identity_pem(&*cert, &*other), "with its key"),
            (good.server_name("a b"), "a b"),
        ] {
            let error = tls.prepare("x", Protocol::Http2).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(!error.contains("PRIVATE"), "{error}");
        }
    }

    #[test]
    fn a_spiffe_id_is_one_whole() {
        for id in [
            "spiffe://example.org",
            "spiffe://td/ns/x/sa/y",
            "spiffe://a-b.c_d/A.b-c_d",
        ] {
            assert!(is_spiffe_id(id), "{id}");
            assert_eq!(Expected::parse(id), Ok(Expected::Uri(id.to_owned())));
        }
        for no in [
            "spiffe://",
            "spiffe:///x",
            "spiffe://td/",
            "spiffe://td//x",
            "spiffe://td/../x",
            "spiffe://TD/x",
            "spiffe://td:1/x",
            "spiffe://td/x?y",
            "https://td/x",
            "SPIFFE://td/x",
        ] {
            let error = Expected::parse(no).unwrap_err();
            assert!(error.contains("SPIFFE ID"), "{no}: {error}");
        }
    }
}
