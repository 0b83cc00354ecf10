//! TLS from PEM files that are read again when they change.

mod build;
mod failures;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use lookaside_client::tls::pem::{self, PemError};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Acceptor, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

pub(super) use self::failures::{Failed, Failures};
use crate::certificate::{Certificates, Role, Used};
use crate::file::{self, ReadError};

/// Bytes of a file. The certificates of every public CA are a twentieth of it; lists of
/// what they revoked are longer.
const MAX_FILE: u64 = 16 << 20;

/// Which files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsPaths {
    /// The port's certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key of the leaf.
    pub key: PathBuf,
    /// The CAs of its clients, if they must show a certificate.
    pub client_ca: Option<PathBuf>,
    /// What those CAs have revoked.
    pub client_crl: Option<PathBuf>,
}

/// Certificate and key of the port, and the CA of its clients if they must show
/// a certificate.
pub struct TlsFiles {
    paths: TlsPaths,
    certificates: Certificates,
    current: ArcSwap<Current>,
    /// What `current` was made of.
    loaded: Mutex<Loaded>,
}

/// What handshakes are done with.
struct Current {
    config: Arc<ServerConfig>,
    /// Who judges clients' certificates, if they have to show one.
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Grows with each change of what clients are judged by.
    trust: u64,
}

struct Loaded {
    contents: Contents,
    used: Vec<Used>,
}

/// What is in the files.
#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    client_crl: Option<Vec<u8>>,
}

impl Contents {
    fn read_blocking(paths: &TlsPaths) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            file::read_blocking(path, MAX_FILE).map_err(|error| TlsError::read(path, error))
        };
        Ok(Self {
            cert: read(&paths.cert)?,
            key: read(&paths.key)?,
            client_ca: paths.client_ca.as_deref().map(read).transpose()?,
            client_crl: paths.client_crl.as_deref().map(read).transpose()?,
        })
    }
}

/// What changed files brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// Nothing changed.
    Unchanged,
    /// Another certificate is shown to new connections.
    Changed,
    /// Clients are judged otherwise: some that are connected might not be any more.
    ChangedTrust,
}

/// A handshake that succeeded.
pub(super) struct Accepted {
    pub(super) stream: TlsStream<TcpStream>,
    /// What the client showed, leaf first.
    pub(super) certificates: Option<Vec<CertificateDer<'static>>>,
    /// By what it was judged.
    pub(super) trust: u64,
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
        error: ReadError,
    },
    /// A file is not what it should be.
    #[error("{path} has {error}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
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
        error: String,
    },
    /// The CA of clients is of no use.
    #[error("{path} cannot be used to verify clients: {error}", path = path.display())]
    Clients {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

impl TlsFiles {
    /// Reads the files, on a thread that may wait.
    ///
    /// # Errors
    /// If one cannot be read, or they do not belong together.
    pub fn load(paths: TlsPaths, certificates: Certificates) -> Result<Self, TlsError> {
        let contents = Contents::read_blocking(&paths)?;
        let (config, clients) = build::server(&paths, &contents)?;
        let used = uses(&paths, &contents, &certificates);
        Ok(Self {
            paths,
            certificates,
            current: ArcSwap::from_pointee(Current {
                config: Arc::new(config),
                clients,
                trust: 0,
            }),
            loaded: Mutex::new(Loaded { contents, used }),
        })
    }

    /// Whether the files could be used, on a thread that may wait.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn check(paths: &TlsPaths) -> Result<(), TlsError> {
        let contents = Contents::read_blocking(paths)?;
        build::server(paths, &contents).map(|_| ())
    }

    /// Reads the files again, and uses them for new connections if they changed.
    ///
    /// # Errors
    /// If they cannot be used; then what was read before stays.
    pub async fn reload(&self) -> Result<Reload, TlsError> {
        let contents = self.read().await?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.contents == contents {
            return Ok(Reload::Unchanged);
        }
        let (config, clients) = build::server(&self.paths, &contents)?;
        let judges =
            |contents: &Contents| (contents.client_ca.clone(), contents.client_crl.clone());
        let judged_otherwise = judges(&loaded.contents) != judges(&contents);
        let trust = self.current.load().trust + u64::from(judged_otherwise);
        self.current.store(Arc::new(Current {
            config: Arc::new(config),
            clients,
            trust,
        }));
        // The new ones first: a metric that stays is not removed and made again.
        let used = uses(&self.paths, &contents, &self.certificates);
        *loaded = Loaded { contents, used };
        Ok(if judged_otherwise {
            Reload::ChangedTrust
        } else {
            Reload::Changed
        })
    }

    /// Warns of what expires soon.
    pub(super) fn remind(&self) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        for used in &mut loaded.used {
            used.remind(SystemTime::now());
        }
    }

    /// Does the handshake. HTTP/2 must come out of it.
    pub(super) async fn accept(&self, socket: TcpStream) -> Result<Accepted, Failed> {
        let greeted = LazyConfigAcceptor::new(Acceptor::default(), socket).await;
        let greeted = greeted.map_err(Failed::before_hello)?;
        let current = self.current.load_full();
        let stream = greeted.into_stream(Arc::clone(&current.config)).await;
        let stream = stream.map_err(Failed::after_hello)?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(b"h2") {
            return Err(Failed::without_http2());
        }
        let certificates = session.peer_certificates();
        let certificates = certificates.map(|c| c.iter().map(|c| c.clone().into_owned()).collect());
        Ok(Accepted {
            stream,
            certificates,
            trust: current.trust,
        })
    }

    /// By what clients are judged now.
    pub(super) fn trust(&self) -> u64 {
        self.current.load().trust
    }

    /// Whether a client that showed this chain then would still be let in, however old
    /// its certificate is by now: time passes for all alike.
    pub(super) fn trusts(&self, chain: &[CertificateDer<'_>], then: UnixTime) -> bool {
        let current = self.current.load();
        match (&current.clients, chain) {
            (None, _) => true,
            (Some(_), []) => false,
            (Some(clients), [leaf, intermediates @ ..]) => clients
                .verify_client_cert(leaf, intermediates, then)
                .is_ok(),
        }
    }

    /// The certificate's file, for a log.
    pub(super) fn cert(&self) -> impl fmt::Display {
        self.paths.cert.display()
    }

    async fn read(&self) -> Result<Contents, TlsError> {
        let read = async |path: &Path| {
            let read = file::read(path, MAX_FILE).await;
            read.map_err(|error| TlsError::read(path, error))
        };
        let paths = &self.paths;
        Ok(Contents {
            cert: read(&paths.cert).await?,
            key: read(&paths.key).await?,
            client_ca: match &paths.client_ca {
                Some(path) => Some(read(path).await?),
                None => None,
            },
            client_crl: match &paths.client_crl {
                Some(path) => Some(read(path).await?),
                None => None,
            },
        })
    }
}

/// Not what is in it: a key is.
impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

impl TlsError {
    fn read(path: &Path, error: ReadError) -> Self {
        Self::Read {
            path: path.to_owned(),
            error,
        }
    }

    fn pem(path: &Path) -> impl Fn(PemError) -> Self {
        move |error| Self::Pem {
            path: path.to_owned(),
            error,
        }
    }
}

fn uses(paths: &TlsPaths, contents: &Contents, all: &Certificates) -> Vec<Used> {
    let server = (Role::Server, &paths.cert, &contents.cert);
    let clients = paths.client_ca.as_ref().zip(contents.client_ca.as_ref());
    let clients = clients.map(|(path, text)| (Role::ClientCa, path, text));
    let files = std::iter::once(server).chain(clients);
    let used = files.map(|(role, path, text)| {
        all.used(role, path, &pem::certificates(text).unwrap_or_default())
    });
    used.collect()
}
