//! TLS from PEM files that are read again when they change.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use super::metrics::NetMetrics;
use crate::file;

/// How often the files are looked at.
const CHECK: Duration = Duration::from_secs(2);

/// Bytes of a file. The certificates of every public CA are a twentieth of it.
const MAX_FILE: u64 = 4 << 20;

/// Certificate and key of the port, and the CA of its clients if they must show
/// a certificate.
#[derive(Debug)]
pub struct TlsFiles {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    config: ArcSwap<ServerConfig>,
    /// What `config` was made of.
    used: Mutex<Contents>,
}

/// Why TLS files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} has no {wanted} in PEM form: {error}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What is wrong with it.
        error: PemError,
    },
    /// The key is not the certificate's, or one of them is of no use.
    #[error(
        "certificate {cert} cannot be used with key {key}: {error}",
        cert = cert.display(),
        key = key.display()
    )]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// The CA of clients is of no use.
    #[error("{path} is no CA to verify clients with: {error}", path = path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

/// What is wrong with a PEM file.
#[derive(Debug)]
pub struct PemError(pem::Error);

#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read, or they do not belong together.
    pub fn load(cert: PathBuf, key: PathBuf, client_ca: Option<PathBuf>) -> Result<Self, TlsError> {
        let contents = read(&cert, &key, client_ca.as_deref())?;
        let config = config(&cert, &key, client_ca.as_deref(), &contents)?;
        Ok(Self {
            cert,
            key,
            client_ca,
            config: ArcSwap::from_pointee(config),
            used: Mutex::new(contents),
        })
    }

    /// Reads the files again, and uses them for new connections if they
    /// changed. Says whether they did.
    ///
    /// # Errors
    /// If they cannot be used; then what was read before stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let client_ca = self.client_ca.as_deref();
        let contents = read(&self.cert, &self.key, client_ca)?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if *used == contents {
            return Ok(false);
        }
        let config = config(&self.cert, &self.key, client_ca, &contents)?;
        self.config.store(Arc::new(config));
        *used = contents;
        Ok(true)
    }

    /// Does the handshake. HTTP/2 must come out of it. The second is what the
    /// client showed.
    pub(super) async fn accept(
        &self,
        socket: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Vec<CertificateDer<'static>>>)> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let stream = acceptor.accept(socket).await?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other(
                "the client does not ask for HTTP/2 (ALPN h2)",
            ));
        }
        let certificates = session.peer_certificates();
        let certificates = certificates.map(|c| c.iter().map(|c| c.clone().into_owned()).collect());
        Ok((stream, certificates))
    }

    /// Reloads when the files change, for ever. A bad change is logged once.
    pub(super) async fn watch(self: &Arc<Self>, metrics: &NetMetrics) {
        let mut logged = String::new();
        loop {
            tokio::time::sleep(CHECK).await;
            let files = Arc::clone(self);
            let Ok(reloaded) = tokio::task::spawn_blocking(move || files.reload()).await else {
                continue;
            };
            match reloaded {
                Ok(false) => logged.clear(),
                Ok(true) => {
                    logged.clear();
                    metrics.tls_reloaded(true);
                    info!(cert = %self.cert.display(), "new certificate in use");
                }
                Err(error) => {
                    let error = error.to_string();
                    if logged != error {
                        metrics.tls_reloaded(false);
                        warn!(
                            error,
                            "changed TLS files cannot be used; the old stay in use"
                        );
                        logged = error;
                    }
                }
            }
        }
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            pem::Error::NoItemsFound => f.write_str("there is none in it"),
            error => error.fmt(f),
        }
    }
}

impl fmt::Debug for Contents {
    /// A key is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contents")
    }
}

fn read(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Contents, TlsError> {
    let read = |path: &Path| {
        file::read_blocking(path, MAX_FILE).map_err(|error| TlsError::Read {
            path: path.to_owned(),
            error: error.into(),
        })
    };
    Ok(Contents {
        cert: read(cert)?,
        key: read(key)?,
        client_ca: client_ca.map(read).transpose()?,
    })
}

fn config(
    cert: &Path,
    key: &Path,
    client_ca: Option<&Path>,
    contents: &Contents,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(cert, &contents.cert)?;
    let private = PrivateKeyDer::from_pem_slice(&contents.key);
    let private = private.map_err(|error| pem_error(key, "private key", error))?;

    let pair_error = |error| TlsError::Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
        error,
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair_error)?;
    let builder = match (client_ca, &contents.client_ca) {
        (Some(path), Some(contents)) => {
            let no_ca = |error: String| TlsError::ClientCa {
                path: path.to_owned(),
                error,
            };
            let mut roots = RootCertStore::empty();
            for root in certificates(path, contents)? {
                roots.add(root).map_err(|error| no_ca(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = verifier.build().map_err(|error| no_ca(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(pair_error)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// At least one certificate.
fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wanted = "certificate";
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|error| pem_error(path, wanted, error))?;
    if all.is_empty() {
        return Err(pem_error(path, wanted, pem::Error::NoItemsFound));
    }
    Ok(all)
}

fn pem_error(path: &Path, wanted: &'static str, error: pem::Error) -> TlsError {
    TlsError::Pem {
        path: path.to_owned(),
        wanted,
        error: PemError(error),
    }
}
