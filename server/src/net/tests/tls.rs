//! TLS: what is asked of clients, and certificates that change.

use std::path::PathBuf;

use rcgen::{
    CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
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
    serial: SerialNumber,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        // Of two CAs with one name the wrong one would be asked for its signature.
        let name = format!("CA {:?}", &key.public_key_raw()[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        let ca = CertifiedIssuer::self_signed(params, key).unwrap();
        let files = Self {
            ca,
            dir: tempfile::tempdir().unwrap(),
        };
        files.write(&files.pair("lb.test"));
        files
    }

    fn pair(&self, name: &str) -> Pair {
        self.pair_that(name, |_| {})
    }

    fn pair_that(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        let serial = SerialNumber::from(key.public_key_raw()[..8].to_vec());
        params.serial_number = Some(serial.clone());
        change(&mut params);
        Pair {
            cert: params.signed_by(&key, &self.ca).unwrap().pem(),
            key: key.serialize_pem(),
            serial,
        }
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pair(name).cert.as_bytes()).unwrap()
    }

    /// A list that revokes these.
    fn revoke(&self, revoked: &[&Pair]) -> String {
        let revoked = revoked.iter().map(|pair| RevokedCertParams {
            serial_number: pair.serial.clone(),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            // Long past: it still says what it said.
            next_update: rcgen::date_time_ymd(2021, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.ca).unwrap().pem().unwrap()
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
    let port = Port::start(Some(files.load(None).unwrap()), impatient());
    let mut plain = Client::over(port.connect().await).await;
    assert!(plain.get("/").await.is_err());
    closed(port.connect().await).await;
    for reason in ["tls", "handshake_timeout"] {
        let refused = format!("connections_refused_total{{reason={reason:?}}}");
        port.until(|p| p.metric(&refused) == 1).await;
    }
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

/// Whether a client with this certificate is served on a new connection.
async fn welcomes(port: &Port, files: &Files, pair: &Pair) -> bool {
    served(port, files, pair).await.is_some()
}

async fn served(port: &Port, files: &Files, pair: &Pair) -> Option<Client> {
    let client = files.client(Some(pair), &["h2"]);
    let io = connect(port, &client, "lb.test").await.ok()?;
    // With TLS 1.3 a client learns only later that it is not welcome.
    let (h2, connection) = h2::client::handshake(io).await.ok()?;
    let connection = tokio::spawn(connection);
    let mut client = Client { h2, connection };
    client.get("/").await.ok()?;
    Some(client)
}

#[tokio::test]
async fn clients_of_a_ca_that_was_replaced_are_sent_away_and_others_stay() {
    let (files, other) = (Files::new(), Files::new());
    let ca = files.path("ca.pem");
    std::fs::write(&ca, files.ca.pem() + &other.ca.pem()).unwrap();
    let port = Port::start(Some(files.load(Some(ca.clone())).unwrap()), limits());
    let (ours, theirs) = (files.pair("a.test"), other.pair("b.test"));
    let mut stays = served(&port, &files, &ours).await.unwrap();
    let goes = served(&port, &files, &theirs).await.unwrap();
    let peer = port.peer();
    assert!(!peer.untrusted.is_cancelled());
    std::fs::write(&ca, files.ca.pem()).unwrap();
    // It is told to go, and then it is closed, whatever it does.
    goes.ended().await.unwrap();
    assert!(peer.untrusted.is_cancelled());
    port.until(|p| p.metric("connections") == 1).await;
    assert_eq!(
        port.metric("connections_closed_total{reason=\"untrusted\"}"),
        1
    );
    stays.get("/").await.unwrap();
    assert!(!welcomes(&port, &files, &theirs).await);
    assert!(welcomes(&port, &files, &ours).await);
}

#[tokio::test]
async fn whose_certificate_is_revoked_is_sent_away_and_not_let_in() {
    let files = Files::new();
    let (ca, crl) = (files.path("ca.pem"), files.path("ca.crl"));
    std::fs::write(&ca, files.ca.pem()).unwrap();
    std::fs::write(&crl, files.revoke(&[])).unwrap();
    let port = files.load_with(Some(ca), Some(crl.clone())).unwrap();
    let port = Port::start(Some(port), limits());
    let (good, bad) = (files.pair("a.test"), files.pair("b.test"));
    let mut stays = served(&port, &files, &good).await.unwrap();
    let goes = served(&port, &files, &bad).await.unwrap();
    std::fs::write(&crl, files.revoke(&[&bad])).unwrap();
    goes.ended().await.unwrap();
    assert!(!welcomes(&port, &files, &bad).await);
    assert!(welcomes(&port, &files, &good).await);
    stays.get("/").await.unwrap();

    // A list that cannot be read leaves what was known.
    std::fs::write(&crl, "nonsense").unwrap();
    let refused = "tls_reloads_total{successful=\"false\"}";
    port.until(|p| p.metric(refused) == 1).await;
    assert!(!welcomes(&port, &files, &bad).await);
    // And one that revokes nothing lets it in again.
    std::fs::write(&crl, files.revoke(&[])).unwrap();
    let again = async { while !welcomes(&port, &files, &bad).await {} };
    timeout(SOON, again).await.expect("let in");
}

#[tokio::test]
async fn a_certificate_that_expires_later_does_not_end_a_connection_when_files_change() {
    let files = Files::new();
    let ca = files.path("ca.pem");
    std::fs::write(&ca, files.ca.pem()).unwrap();
    let tls = files.load(Some(ca.clone())).unwrap();
    let chain = [files.certificate("a.test")];
    let now = rustls::pki_types::UnixTime::now();
    assert!(tls.trusts(&chain, now));
    // The moment of the handshake counts, not the one of the change.
    let after = Duration::from_secs(now.as_secs() + (5000 << 25));
    assert!(!tls.trusts(&chain, rustls::pki_types::UnixTime::since_unix_epoch(after)));
    std::fs::write(&ca, Files::new().ca.pem()).unwrap();
    assert_eq!(tls.reload().await.unwrap(), Reload::ChangedTrust);
    assert!(!tls.trusts(&chain, now));
    assert!(!tls.trusts(&[], now));
}

/// Why the handshake fails with a client that does this.
async fn failure<F: Future>(tls: &TlsFiles, client: impl FnOnce(TcpStream) -> F) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let calling = async {
        let socket = TcpStream::connect(addr).await.unwrap();
        client(socket).await
    };
    let answering = async {
        let (socket, _) = listener.accept().await.unwrap();
        tls.accept(socket).await.err().expect("a failure")
    };
    let (_, failed) = timeout(SOON, futures_util::future::join(calling, answering))
        .await
        .unwrap();
    format!("{failed:?}")
}

#[tokio::test]
async fn why_a_handshake_failed_is_said_in_words() {
    use tokio::io::AsyncWriteExt as _;

    let (files, stranger) = (Files::new(), Files::new());
    let (ca, crl) = (files.path("ca.pem"), files.path("ca.crl"));
    let (good, revoked) = (files.pair("a.test"), files.pair("b.test"));
    let foreign = stranger.pair("a.test");
    std::fs::write(&ca, files.ca.pem()).unwrap();
    std::fs::write(&crl, files.revoke(&[&revoked])).unwrap();
    let tls = files.load_with(Some(ca), Some(crl)).unwrap();
    for (said, wanted) in [
        (
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            "does not speak TLS",
        ),
        (b"GET / HTTP/1.1\r\n\r\n", "give the client TLS credentials"),
        (b"", "Silent"),
    ] {
        let why = failure(&tls, async |mut socket| socket.write_all(said).await).await;
        assert!(why.contains(wanted), "{why}");
    }
    let old = files.pair_that("a.test", |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1));
    for (trusts, shows, alpn, name, wanted) in [
        (
            &stranger,
            Some(&good),
            "h2",
            "lb.test",
            "does not trust the CA",
        ),
        (
            &files,
            Some(&good),
            "h2",
            "other.test",
            "called the balancer by a name",
        ),
        (&files, Some(&good), "http/1.1", "lb.test", "ALPN h2"),
        (&files, None, "h2", "lb.test", "shows no client certificate"),
        (
            &files,
            Some(&foreign),
            "h2",
            "lb.test",
            "signed by no CA of client_ca",
        ),
        (&files, Some(&old), "h2", "lb.test", "has expired"),
        (
            &files,
            Some(&revoked),
            "h2",
            "lb.test",
            "revoked by client_crl",
        ),
    ] {
        let client = trusts.client(shows, &[alpn]);
        let name = ServerName::try_from(name).unwrap();
        let why = failure(&tls, |socket| client.connect(name, socket)).await;
        assert!(why.contains(wanted), "{wanted}: {why}");
    }
}
