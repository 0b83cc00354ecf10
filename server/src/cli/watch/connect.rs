//! A connection to a balancer, plain or by TLS.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::WatchArgs;
use super::protocol::{Protocol, spoken_at};

/// An attempt that takes longer fails: what drops packets never answers.
const ATTEMPT: Duration = Duration::from_secs(5);

/// A port that answers at all answers in less.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connects to one balancer, again and again.
pub(super) struct Connector {
    address: String,
    endpoint: Endpoint,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Whether it has a certificate to show.
    has_certificate: bool,
}

impl Connector {
    /// For the balancer of these arguments; by TLS if they have a `ca`.
    pub(super) fn new(args: &WatchArgs) -> anyhow::Result<Self> {
        let address = &args.balancer;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .ok()
            .filter(|endpoint| endpoint.uri().port().is_some())
            .with_context(|| format!("`{address}` is not a valid address; write host:port"))?;
        let certificate = args.cert.as_deref().zip(args.key.as_deref());
        let tls = match &args.ca {
            Some(ca) => {
                let host = endpoint.uri().host().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let name = args.server_name.as_deref().unwrap_or(host).to_owned();
                let name = ServerName::try_from(name.clone()).with_context(|| {
                    format!("`{name}` is not a valid name for a certificate; write --server-name")
                })?;
                Some((tls(ca, certificate)?, name))
            }
            None => None,
        };
        Ok(Self {
            address: address.clone(),
            endpoint: endpoint.connect_timeout(ATTEMPT),
            tls,
            has_certificate: certificate.is_some(),
        })
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Channel, Status> {
        let connecting = async {
            let Some((tls, name)) = &self.tls else {
                return self.endpoint.connect().await;
            };
            let (tls, name, address) = (tls.clone(), name.clone(), self.address.clone());
            let connector = service_fn(move |_: Uri| {
                let (tls, name, address) = (tls.clone(), name.clone(), address.clone());
                async move {
                    let stream = TcpStream::connect(address).await?;
                    let stream = tls.connect(name, stream).await?;
                    Ok::<_, io::Error>(TokioIo::new(stream))
                }
            });
            self.endpoint.connect_with_connector(connector).await
        };
        match timeout(ATTEMPT, connecting).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(cannot_connect(deepest(&error))),
            Err(_) => Err(cannot_connect(format!("no answer within {ATTEMPT:?}"))),
        }
    }

    /// Whether the balancer ends a connection because nothing was shown to it. It says
    /// so after the handshake, and the error that HTTP/2 makes of it may not.
    async fn lacks_certificate(&self) -> bool {
        let (Some((tls, name)), false) = (&self.tls, self.has_certificate) else {
            return false;
        };
        let read = async {
            let stream = TcpStream::connect(&self.address).await?;
            let mut stream = tls.connect(name.clone(), stream).await?;
            stream.read_u8().await
        };
        let Ok(Err(error)) = timeout(PATIENCE, read).await else {
            return false;
        };
        error.to_string().contains("CertificateRequired")
    }

    /// What to do about a stream that failed before its first list, if that can be
    /// known.
    pub(super) async fn hint(&self, failure: &str) -> Option<&'static str> {
        if self.lacks_certificate().await {
            return Some("the balancer wants a client certificate: pass --cert and --key");
        }
        if self.has_certificate && failure.contains("received fatal alert") {
            return Some("the balancer does not trust the certificate of --cert");
        }
        match (spoken_at(&self.address).await?, self.tls.is_some()) {
            (Protocol::Tls, false) => {
                Some("the port speaks TLS: pass --ca with the certificate that signed its own")
            }
            (Protocol::Plaintext, true) => {
                Some("the port speaks plaintext, not TLS: leave out --ca")
            }
            _ => None,
        }
    }
}

fn tls(ca: &Path, certificate: Option<(&Path, &Path)>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some((cert, key)) => {
            let unreadable = || format!("cannot read a private key from {}", key.display());
            let private = PrivateKeyDer::from_pem_file(key).with_context(unreadable)?;
            let config = config.with_client_auth_cert(certificates(cert)?, private);
            config.with_context(|| {
                let (cert, key) = (cert.display(), key.display());
                format!("{key} is not the key of the certificate in {cert}")
            })?
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let unreadable = || format!("cannot read certificates from {}", file.display());
    let certificates = CertificateDer::pem_file_iter(file).with_context(unreadable)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>();
    let certificates = certificates.with_context(unreadable)?;
    anyhow::ensure!(
        !certificates.is_empty(),
        "{} has no certificate",
        file.display()
    );
    Ok(certificates)
}

fn cannot_connect(why: String) -> Status {
    Status::unavailable(format!("cannot connect: {why}"))
}

/// What lies behind an error.
pub(super) fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
