//! TLS towards backends: what is said of those that cannot be called.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ServerConfig;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::*;
use lookaside_core::model::TlsIdentity;

/// A CA, and its certificate in a file.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn tls(&self) -> BackendTls {
        BackendTls {
            ca: Some(self.file()),
            ..BackendTls::default()
        }
    }

    /// A server whose certificate is this.
    fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// Does handshakes, and speaks HTTP/2 behind them.
async fn tls_server(config: ServerConfig) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(local()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    let mut server = h2::server::handshake(stream).await.unwrap();
                    while server.accept().await.is_some() {}
                }
            });
        }
    });
    (addr, tasks)
}

/// The subchannel that calls a backend `a.test` there.
fn call(target: SocketAddr, tls: BackendTls) -> Subchannel {
    let subchannels = Subchannels::new(SubchannelMetrics::default(), Certificates::default());
    let address = Address {
        target,
        authority: None,
        tls: Some(Arc::new(tls)),
    };
    subchannels.get(&address, "a.test")
}

/// Why there is no connection.
async fn reason(subchannel: &Subchannel) -> String {
    let mut reason = String::new();
    until(&mut subchannel.states(), "a failure", |state| match state {
        State::Failed(not_opened) => {
            reason = not_opened.to_string();
            true
        }
        _ => false,
    })
    .await;
    reason
}

#[tokio::test]
async fn why_a_backend_cannot_be_called_is_said_with_the_key_that_mends_it() {
    let (ca, other) = (Ca::new("one"), Ca::new("other"));
    let (good, _a) = tls_server(ca.server(|_| {})).await;
    let (expired, _b) =
        tls_server(ca.server(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))).await;
    let (uri, _c) = tls_server(ca.server(|params| {
        let id = "spiffe://td/ns/x".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(id)];
    }))
    .await;
    let plain = Server::start(local());
    let named = |name: &str| BackendTls {
        server_name: Some(name.to_owned()),
        ..ca.tls()
    };

    let ready = call(good, ca.tls());
    until(&mut ready.states(), "ready", |s| s.ready().is_some()).await;
    let ready = call(uri, named("spiffe://td/ns/x"));
    until(&mut ready.states(), "ready", |s| s.ready().is_some()).await;

    let missing = BackendTls {
        ca: Some(PathBuf::from("/no/such/file.pem")),
        ..BackendTls::default()
    };
    for (target, tls, wanted) in [
        (plain.addr, ca.tls(), ["is not TLS", "tls = false"]),
        (
            good,
            other.tls(),
            ["no CA that is trusted", "`ca` of the service's tls"],
        ),
        (
            good,
            named("b.test"),
            ["is for a.test, not for \"b.test\"", "`server_name` of"],
        ),
        (
            uri,
            named("spiffe://td/ns/y"),
            ["is for spiffe://td/ns/x", "`server_name` of"],
        ),
        (
            good,
            named("spiffe://td/ns/x"),
            ["is for a.test", "`server_name` of"],
        ),
        (expired, ca.tls(), ["certificate expired", "renew it"]),
        (
            good,
            missing,
            ["cannot read /no/such/file.pem", "No such file"],
        ),
    ] {
        let reason = reason(&call(target, tls)).await;
        for wanted in wanted {
            assert!(reason.contains(wanted), "{wanted}: {reason}");
        }
    }

    // And the other way round.
    let subchannels = Subchannels::new(SubchannelMetrics::default(), Certificates::default());
    let plaintext = subchannels.get(&address(good), "a.test");
    let reason = reason(&plaintext).await;
    assert!(reason.contains("tls = true"), "{reason}");
}

#[tokio::test]
async fn files_that_are_of_no_use_at_first_are_used_once_they_are() {
    let ca = Ca::new("one");
    let (good, _a) = tls_server(ca.server(|_| {})).await;
    let write = |name: &str, text: &str| {
        let path = ca.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let own = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(["balancer.test".to_owned()]).unwrap();
    let cert = cert.self_signed(&own).unwrap();
    let identity = TlsIdentity {
        cert: write("cert.pem", &cert.pem()),
        key: write("key.pem", &format!("  {}", own.serialize_pem())),
    };
    let key: &Path = &identity.key.clone();
    let tls = BackendTls {
        identity: Some(identity),
        ..ca.tls()
    };
    let subchannel = call(good, tls);
    let reason = reason(&subchannel).await;
    for wanted in ["key.pem has no private key", "indented"] {
        assert!(reason.contains(wanted), "{reason}");
    }
    std::fs::write(key, own.serialize_pem()).unwrap();
    until(&mut subchannel.states(), "ready", |s| s.ready().is_some()).await;
}
