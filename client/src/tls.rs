//! TLS towards backends and balancers, by rustls (feature `tls`).
//!
//! What a channel trusts, and what it shows, is said separately for the two: see
//! [`Builder::tls`](crate::Builder::tls) and
//! [`Builder::balancer_tls`](crate::Builder::balancer_tls).

use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// HTTP/2's name in ALPN. gRPC runs on nothing else.
const H2: &[u8] = b"h2";

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

impl ClientTls {
    /// Trusts the operating system's certificate authorities, or those that the
    /// environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name. They are
    /// read when the channel is built.
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
    /// system's; called again, also these.
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

    /// Expects `name`, a host name or an IP address, in the server's certificate,
    /// instead of the name that is called.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Reads all PEM, to call a server by the name `server` if no other was given.
    ///
    /// # Errors
    /// A sentence that says what cannot be used.
    pub(crate) fn prepare(self, server: &str) -> Result<Tls, String> {
        let name = self.server_name.as_deref().map(parse_name).transpose()?;
        let mut config = match self.ready {
            Some(config) => config,
            None => config(&self.ca, self.identity)?,
        };
        config.alpn_protocols = vec![H2.to_vec()];
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(config)),
            name,
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
pub(crate) struct Tls {
    connector: TlsConnector,
    /// What the certificate has to be for, whoever is called.
    name: Option<ServerName<'static>>,
    /// Who is called.
    server: Arc<str>,
}

impl Tls {
    /// The same, to call `server`.
    pub(crate) fn to(&self, server: &str) -> Self {
        Self {
            server: server.into(),
            ..self.clone()
        }
    }

    /// Does the handshake over `socket`.
    ///
    /// # Errors
    /// A sentence that names who was expected, and says what rustls does.
    pub(crate) async fn handshake<S>(&self, socket: S) -> Result<TlsStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => parse_name(&self.server)?,
        };
        let expected = name.to_str().into_owned();
        let stream = self.connector.connect(name, socket).await;
        let stream = stream.map_err(|error| {
            let hint = hint(&error);
            format!("TLS handshake with a server called {expected:?}: {error}{hint}")
        })?;
        match stream.get_ref().1.alpn_protocol() {
            Some(H2) => Ok(stream),
            _ => Err(format!(
                "TLS handshake with a server called {expected:?}: it does not offer HTTP/2 \
                 (ALPN h2), which gRPC needs"
            )),
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// What people mean who meet this error, where rustls does not know it.
fn hint(error: &std::io::Error) -> &'static str {
    let cause = error.get_ref().and_then(|e| e.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidMessage(_)) => " (does the server speak TLS at all?)",
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            " (it does not offer HTTP/2, ALPN h2, which gRPC needs)"
        }
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            " (the server closed the connection; does it speak TLS?)"
        }
        _ => "",
    }
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
        format!("{host:?} cannot be the name in a certificate: a host name or IP address can")
    })
}

fn config(ca: &[Vec<u8>], identity: Option<(Vec<u8>, Vec<u8>)>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(ca)?);
    let Some((cert, key)) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(&cert, "the client's certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| format!("the client's key is no private key in PEM form: {error}"))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the client's certificate cannot be used with its key: {error}"))
}

fn roots(ca: &[Vec<u8>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for pem in ca {
        for certificate in certificates(pem, "the CA to trust")? {
            roots
                .add(certificate)
                .map_err(|error| format!("the CA to trust cannot be used: {error}"))?;
        }
    }
    if ca.is_empty() {
        let system = rustls_native_certs::load_native_certs();
        // Old stores hold certificates that nobody can use; that is no news.
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            let errors = system.errors.iter().map(|error| format!(": {error}"));
            return Err(format!(
                "the system trusts no certificate authority; install its CA certificates, or \
                 give one with ClientTls::ca_pem{}",
                errors.collect::<String>()
            ));
        }
    }
    Ok(roots)
}

/// At least one certificate.
fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!("{what} has no certificate in PEM form")),
        Err(error) => Err(format!("{what} is no certificate in PEM form: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(good.clone().prepare("x").is_ok());
        assert!(
            good.clone()
                .identity_pem(&*cert, &*key)
                .prepare("x")
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
            let error = tls.prepare("x").unwrap_err();
            assert!(error.contains(wanted), "{error}");
            assert!(!error.contains("PRIVATE"), "{error}");
        }
    }
}
