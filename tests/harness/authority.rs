//! Certificates of a test's own, and TLS in front of backends that have none.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate that it signed, and its key.
pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// TLS in front of a server in plaintext. Dropping it ends it, with its connections.
pub struct TlsFront {
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Authority {
    /// Another one, whatever there is.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "no two are the same")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::CrlSign,
        ];
        let key = KeyPair::generate().unwrap();
        // Of two CAs with one name the wrong one would be asked for its signature.
        let name = format!("CA {:?}", &key.public_key_raw()[..16]);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its certificate, in PEM form.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate for `name`: a host name, an IP address or a URI.
    #[must_use]
    pub fn issue(&self, name: &str) -> Identity {
        let mut params = if name.contains("://") {
            let mut params = CertificateParams::default();
            let uri = SanType::URI(name.try_into().unwrap());
            params.subject_alt_names = vec![uri];
            params
        } else {
            CertificateParams::new([name.to_owned()]).unwrap()
        };
        params.is_ca = IsCa::ExplicitNoCa;
        let key = KeyPair::generate().unwrap();
        let serial = key.public_key_raw()[..8].to_vec();
        params.serial_number = Some(rcgen::SerialNumber::from(serial));
        Identity {
            certificate: params.signed_by(&key, &self.0).unwrap(),
            key,
        }
    }

    /// A list that revokes these, in PEM form.
    #[must_use]
    pub fn revoke(&self, revoked: &[&Identity]) -> String {
        let revoked = revoked.iter().map(|identity| rcgen::RevokedCertParams {
            serial_number: identity.serial(),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(4000, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots.into()
    }
}

impl Identity {
    /// The certificate, in PEM form.
    #[must_use]
    pub fn cert(&self) -> String {
        self.certificate.pem()
    }

    /// Its key, in PEM form.
    #[must_use]
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// Writes both into `folder`; their paths.
    #[must_use]
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let (cert, key) = (folder.join(cert), folder.join(key));
        std::fs::write(&cert, self.cert()).unwrap();
        std::fs::write(&key, self.key()).unwrap();
        (cert, key)
    }

    /// A server with this certificate; if `clients` are given, it wants theirs.
    #[must_use]
    pub fn server(&self, clients: Option<&Authority>) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = clients.roots();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let chain = vec![self.certificate.der().clone()];
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }

    fn serial(&self) -> rcgen::SerialNumber {
        rcgen::SerialNumber::from(self.key.public_key_raw()[..8].to_vec())
    }
}

impl TlsFront {
    /// Starts at any port of loopback.
    pub async fn start(config: ServerConfig, behind: SocketAddr) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), config, behind).await
    }

    /// Starts at this address.
    pub async fn start_at(addr: SocketAddr, config: ServerConfig, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    // Who does not like the certificate goes away.
                    if let Ok(mut outside) = acceptor.accept(socket).await {
                        let mut inside = TcpStream::connect(behind).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                    }
                });
            }
        });
        Self {
            addr,
            _tasks: tasks,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
