//! TLS: what is asked of clients, and certificates that change.

use std::path::PathBuf;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::certificate::Certificates;

/// A CA, and a directory with the port's files.
struct Files {
    ca: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key, in PEM form.
struct Pair {
    cert: String,
    key: String,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = Self {
            ca,
            dir: tempfile::tempdir().unwrap(),
        };
        files.write(&files.pair("lb.test"));
        files
    }

    fn pair(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Pair {
            cert: params.signed_by(&key, &self.ca).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, pair: &Pair) {
        std::fs::write(self.path("cert.pem"), &pair.cert).unwrap();
        std::fs::write(self.path("key.pem"), &pair.key).unwrap();
    }

    fn load(&self, client_ca: Option<PathBuf>) -> Result<Arc<TlsFiles>, TlsError> {
        self.load_with(client_ca, None)
    }

    fn load_with(
        &self,
        client_ca: Option<PathBuf>,
        client_crl: Option<PathBuf>,
    ) -> Result<Arc<TlsFiles>, TlsError> {
        let paths = TlsPaths {
            cert: self.path("cert.pem"),
            key: self.path("key.pem"),
            client_ca,
            client_crl,
        };
        TlsFiles::load(paths, Certificates::default()).map(Arc::new)
    }

    fn port(&self) -> (Port, Arc<TlsFiles>) {
        let files = self.load(None).unwrap();
        (Port::start(Some(Arc::clone(&files)), limits()), files)
    }

    /// A client that trusts the CA.
    fn client(&self, shows: Option<&Pair>, alpn: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

async fn connect(
    port: &Port,
    client: &TlsConnector,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name).unwrap();
    client.connect(name, port.connect().await).await
}

/// Whether the port shows a certificate for `name`.
async fn shows(port: &Port, files: &Files, name: &'static str) -> bool {
    let connected = connect(port, &files.client(None, &["h2"]), name).await;
    match connected {
        Err(_) => false,
        Ok(io) => Client::over(io).await.get("/").await.is_ok(),
    }
}

#[tokio::test]
async fn http2_is_served_over_tls() {
    let files = Files::new();
    let (port, _) = files.port();
    assert!(shows(&port, &files, "lb.test").await);
    assert!(!shows(&port, &files, "other.test").await);
}

#[tokio::test]
async fn a_client_that_does_not_ask_for_http2_is_refused() {
    let files = Files::new();
    let (port, _) = files.port();
    for alpn in [&[][..], &["http/1.1"]] {
        let connected = connect(&port, &files.client(None, alpn), "lb.test").await;
        if let Ok(mut io) = connected {
            use tokio::io::AsyncReadExt as _;
            let _ = timeout(SOON, io.read_to_end(&mut Vec::new()))
                .await
                .unwrap();
        }
    }
    let refused = "connections_refused_total{reason=\"tls\"}";
    port.until(|p| p.metric(refused) == 2).await;
    assert_eq!(port.metric("connections"), 0);
}

#[tokio::test]
async fn plaintext_and_silence_do_not_pass_for_tls() {
    let files = Files::new();
    let (port, _) = files.port();
    let mut plain = Client::over(port.connect().await).await;
    assert!(plain.get("/").await.is_err());
    let silent = port.connect().await;
    let refused = |reason| port.metric(&format!("connections_refused_total{{reason={reason:?}}}"));
    port.until(|p| refused("tls") == 1 && p.metric("connections") == 1)
        .await;
    // From here on the clock runs as fast as nothing happens.
    tokio::time::pause();
    closed(silent).await;
    assert_eq!(refused("handshake_timeout"), 1);
}

#[tokio::test]
async fn a_client_certificate_is_demanded_and_handed_on() {
    let files = Files::new();
    let ca = files.path("ca.pem");
    std::fs::write(&ca, files.ca.pem()).unwrap();
    let port = Port::start(Some(files.load(Some(ca)).unwrap()), limits());
    assert!(!shows(&port, &files, "lb.test").await);
    let stranger = Files::new().pair("client.test");
    let pair = files.pair("client.test");
    for (pair, welcome) in [(&stranger, false), (&pair, true)] {
        let client = files.client(Some(pair), &["h2"]);
        // With TLS 1.3 a client learns only later that it is not welcome.
        let served = match connect(&port, &client, "lb.test").await {
            Err(_) => false,
            Ok(io) => match h2::client::handshake(io).await {
                Err(_) => false,
                Ok((h2, connection)) => {
                    let connection = tokio::spawn(connection);
                    Client { h2, connection }.get("/").await.is_ok()
                }
            },
        };
        assert_eq!(served, welcome);
    }
    let shown = port.peer().certificates.clone().expect("a certificate");
    let expected = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    assert_eq!(shown, [expected]);
}

#[tokio::test]
async fn a_changed_certificate_is_used_by_new_connections() {
    let files = Files::new();
    let (port, tls) = files.port();
    let io = connect(&port, &files.client(None, &["h2"]), "lb.test").await;
    let mut old = Client::over(io.unwrap()).await;
    assert_eq!(tls.reload().await.unwrap(), Reload::Unchanged);
    files.write(&files.pair("new.test"));
    assert_eq!(tls.reload().await.unwrap(), Reload::Changed);
    assert!(shows(&port, &files, "new.test").await);
    old.get("/").await.unwrap();
}

#[tokio::test]
async fn a_change_is_noticed_without_being_told() {
    let files = Files::new();
    let (port, _) = files.port();
    files.write(&files.pair("new.test"));
    let seen = async { while !shows(&port, &files, "new.test").await {} };
    timeout(SOON, seen).await.expect("noticed");
    let reloads = "tls_reloads_total{successful=\"true\"}";
    assert_eq!(port.metric(reloads), 1);
}

#[tokio::test]
async fn a_bad_change_keeps_the_old_and_names_file_and_reason() {
    let files = Files::new();
    let (port, tls) = files.port();
    let cert = files.path("cert.pem");
    let key = files.path("key.pem");
    let good = files.pair("lb.test");
    let other = files.pair("lb.test");
    let cases = [
        ("", good.key.as_str(), &cert, "certificate"),
        (good.cert.as_str(), "", &key, "private key"),
        ("-----BEGIN CERT", &good.key, &cert, "certificate"),
        (&good.cert, &other.key, &cert, "key"),
    ];
    for (new_cert, new_key, named, why) in cases {
        std::fs::write(&cert, new_cert).unwrap();
        std::fs::write(&key, new_key).unwrap();
        let error = tls.reload().await.unwrap_err().to_string();
        assert!(error.contains(named.to_str().unwrap()), "{error}");
        assert!(error.contains(why), "{error}");
        assert!(shows(&port, &files, "lb.test").await);
    }
    std::fs::remove_file(&cert).unwrap();
    let error = tls.reload().await.unwrap_err().to_string();
    assert!(error.contains("cannot read"), "{error}");
    assert!(shows(&port, &files, "lb.test").await);
    files.write(&files.pair("new.test"));
    assert_eq!(tls.reload().await.unwrap(), Reload::Changed);
}

#[test]
fn files_that_cannot_be_used_are_refused_at_the_start() {
    let files = Files::new();
    let missing = files.load(Some(files.path("no-such-file"))).unwrap_err();
    assert!(matches!(missing, TlsError::Read { .. }), "{missing}");
    let key_as_ca = files.load(Some(files.path("key.pem"))).unwrap_err();
    assert!(matches!(key_as_ca, TlsError::Pem { .. }), "{key_as_ca}");
}
