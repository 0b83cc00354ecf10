//! A connection to a balancer, plain or by TLS.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Connects to one balancer, again and again.
pub(super) struct Connector {
    address: String,
    endpoint: Endpoint,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    /// For the balancer at `address`; by TLS if there is a `ca`.
    pub(super) fn new(
        address: &str,
        ca: Option<&Path>,
        server_name: Option<&str>,
    ) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .ok()
            .filter(|endpoint| endpoint.uri().port().is_some())
            .with_context(|| format!("`{address}` is no address; write host:port"))?;
        let tls = match ca {
            Some(ca) => {
                let host = endpoint.uri().host().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let name = server_name.unwrap_or(host).to_owned();
                let name = ServerName::try_from(name.clone())
                    .with_context(|| format!("`{name}` is no name that a certificate can have"))?;
                Some((tls(ca)?, name))
            }
            None => None,
        };
        Ok(Self {
            address: address.to_owned(),
            endpoint,
            tls,
        })
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Channel, Status> {
        let Some((tls, name)) = &self.tls else {
            return self.endpoint.connect().await.map_err(cannot_connect);
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
        let connecting = self.endpoint.connect_with_connector(connector);
        connecting.await.map_err(cannot_connect)
    }
}

fn tls(ca: &Path) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let unreadable = || format!("cannot read certificates from {}", ca.display());
    for certificate in CertificateDer::pem_file_iter(ca).with_context(unreadable)? {
        roots.add(certificate.with_context(unreadable)?)?;
    }
    anyhow::ensure!(!roots.is_empty(), "{} has no certificate", ca.display());
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn cannot_connect(error: tonic::transport::Error) -> Status {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Status::unavailable(format!("cannot connect: {cause}"))
}
