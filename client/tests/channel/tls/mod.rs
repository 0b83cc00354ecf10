//! TLS towards backends and balancers: whom the channel takes for whom, and what
//! it says of the others.

mod names;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lookaside_client::{Builder, Channel, ClientTls, Error};
use lookaside_proto::helloworld::HelloRequest;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::harness::{
    ANY_PORT, Backend, Balancer, DnsServer, Process, call, connect, entry, hello, nobody, until,
    within,
};

/// A certificate authority.
struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM form.
struct Identity {
    cert: String,
    key: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // Of two CAs with one name the wrong one would be asked for its signature.
        let name = format!("CA {}", fastrand::u64(..));
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Identity {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A server whose certificate is for `name`.
    fn server(&self, name: &str) -> ServerConfig {
        self.server_that(name, |builder| builder.with_no_client_auth())
    }

    /// The same, which wants certificates of `clients`.
    fn server_for(&self, name: &str, clients: &Self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(clients.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
        let verifier = verifier.build().unwrap();
        self.server_that(name, |builder| builder.with_client_cert_verifier(verifier))
    }

    fn server_that(
        &self,
        name: &str,
        auth: impl FnOnce(
            rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>,
        )
            -> rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    ) -> ServerConfig {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        self.server_of(params, auth)
    }

    /// A server whose certificate has these names.
    fn server_with(&self, names: Vec<rcgen::SanType>) -> ServerConfig {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        self.server_of(params, |builder| builder.with_no_client_auth())
    }

    fn server_of(
        &self,
        params: CertificateParams,
        auth: impl FnOnce(
            rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>,
        )
            -> rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    ) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = auth(builder).with_single_cert(vec![cert], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// A client that trusts this CA alone.
    fn trusted(&self) -> ClientTls {
        ClientTls::new().ca_pem(self.pem())
    }
}

/// TLS in front of a server in plain text.
struct Front {
    addr: SocketAddr,
    _process: Process,
}

impl Front {
    async fn start(config: ServerConfig, behind: SocketAddr) -> Self {
        let process = Process::new();
        let listener = process.listen(ANY_PORT).await;
        let addr = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        process.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Clients that do not like the certificate go away.
                    if let Ok(mut outside) = acceptor.accept(socket).await {
                        let mut inside = TcpStream::connect(behind).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                    }
                });
            }
        });
        Self {
            addr,
            _process: process,
        }
    }
}

/// The service greeter.test, whose balancer is lb.test at `balancer`.
async fn zone(balancer: SocketAddr) -> DnsServer {
    let dns = DnsServer::start().await;
    dns.srv("_grpclb._tcp.greeter.test", balancer.port(), "lb.test.");
    dns.ip("lb.test", Ipv4Addr::LOCALHOST.into());
    dns
}

/// The same with a fallback address.
async fn zone_with_fallback(balancer: SocketAddr) -> DnsServer {
    let dns = zone(balancer).await;
    dns.ip("greeter.test", Ipv4Addr::LOCALHOST.into());
    dns
}

fn greeter(dns: &DnsServer, port: u16) -> Builder {
    Channel::builder(format!("dns://{}/greeter.test:{port}", dns.addr))
}

/// What `connect` says of a backend at `addr` that it does not take.
async fn refusal(addr: SocketAddr, tls: ClientTls) -> String {
    let builder = Channel::builder(format!("static:{addr}")).tls(tls);
    let error = connect(builder).await.unwrap_err().to_string();
    assert!(error.contains(&addr.to_string()), "{error}");
    error
}

#[tokio::test]
async fn backends_with_tls_and_a_balancer_without() {
    let ca = Ca::new();
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let front = Front::start(ca.server("greeter.test"), a.addr).await;
    let dns = zone(balancer.addr).await;
    let builder = greeter(&dns, 1).tls(ca.trusted());
    let channel = builder.connect_lazy().unwrap();
    let stream = balancer.greet().await;
    assert_eq!(stream.authority, "lb.test");
    stream.list([entry(front.addr, "token")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    let call = a.calls().pop().unwrap();
    assert_eq!(call.lb_token.as_deref(), Some("token"));
    assert_eq!(call.authority, "greeter.test:1");
}

#[tokio::test]
async fn a_balancer_with_tls_and_backends_without() {
    let ca = Ca::new();
    let mut balancer = Balancer::start().await;
    let front = Front::start(ca.server("lb.test"), balancer.addr).await;
    let a = Backend::start("a").await;
    let dns = zone(front.addr).await;
    let builder = greeter(&dns, 1).balancer_tls(ca.trusted());
    let channel = builder.connect_lazy().unwrap();
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn balancer_and_backends_of_different_authorities() {
    let (balancer_ca, backend_ca) = (Ca::new(), Ca::new());
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let lb = Front::start(balancer_ca.server("lb.test"), balancer.addr).await;
    let front = Front::start(backend_ca.server("greeter.test"), a.addr).await;
    let dns = zone(lb.addr).await;
    let channel = greeter(&dns, 1)
        .tls(backend_ca.trusted())
        .balancer_tls(balancer_ca.trusted())
        .connect_lazy()
        .unwrap();
    balancer.greet().await.list([entry(front.addr, "")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");

    // The wrong way round neither is trusted.
    let dns = zone_with_fallback(lb.addr).await;
    let builder = greeter(&dns, front.addr.port())
        .tls(balancer_ca.trusted())
        .balancer_tls(backend_ca.trusted());
    let error = connect(builder).await.unwrap_err().to_string();
    assert_eq!(error.matches("UnknownIssuer").count(), 2, "{error}");
}

#[tokio::test]
async fn a_balancer_whose_certificate_is_not_for_its_name_is_not_listened_to() {
    let ca = Ca::new();
    let mut balancer = Balancer::start().await;
    let front = Front::start(ca.server("other.test"), balancer.addr).await;
    let spare = Backend::start("spare").await;
    let dns = zone_with_fallback(front.addr).await;
    let follow = |port| {
        greeter(&dns, port)
            .balancer_tls(ca.trusted())
            .fallback_timeout(Duration::from_secs(3600))
    };
    let channel = connect(follow(spare.addr.port())).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "spare");

    // Without a fallback the reason is in the error.
    let channel = follow(nobody().await.port()).connect_lazy().unwrap();
    let mut text = String::new();
    // DNS may know the backend before it knows the balancer.
    until("an error of the fallback", async || {
        text = hello(&channel).await.unwrap_err().message().to_owned();
        text.contains("fallback")
    })
    .await;
    for wanted in [&*front.addr.to_string(), "\"lb.test\"", "other.test"] {
        assert!(text.contains(wanted), "{wanted} is not in: {text}");
    }
    assert!(balancer.try_accept().is_none());
}

#[tokio::test]
async fn a_balancer_given_by_address_is_called_by_it() {
    let ca = Ca::new();
    let mut balancer = Balancer::start().await;
    let front = Front::start(ca.server("127.0.0.1"), balancer.addr).await;
    let a = Backend::start("a").await;
    let channel = Channel::builder("dns:///greeter.test")
        .balancer(front.addr.to_string())
        .balancer_tls(ca.trusted())
        .connect_lazy()
        .unwrap();
    balancer.greet().await.list([entry(a.addr, "")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn the_name_is_the_targets_host_or_the_authority_or_what_was_given() {
    let ca = Ca::new();
    let a = Backend::start("a").await;
    let front = Front::start(ca.server("greeter.test"), a.addr).await;
    let target = || Channel::builder(format!("static:{}", front.addr));

    let error = refusal(front.addr, ca.trusted()).await;
    assert!(error.contains("\"127.0.0.1\""), "{error}");
    assert!(error.contains("greeter.test"), "{error}");
    let by_authority = target().authority("greeter.test:443").tls(ca.trusted());
    let by_name = target().tls(ca.trusted().server_name("greeter.test"));
    for builder in [by_authority, by_name] {
        let channel = connect(builder).await.unwrap();
        assert_eq!(hello(&channel).await.unwrap(), "a");
    }

    let by_ip = Front::start(ca.server("127.0.0.1"), a.addr).await;
    let builder = Channel::builder(format!("static:{}", by_ip.addr));
    let channel = connect(builder.tls(ca.trusted())).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let a = Backend::start("a").await;
    let front = Front::start(Ca::new().server("127.0.0.1"), a.addr).await;
    let error = refusal(front.addr, Ca::new().trusted()).await;
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn tls_towards_plain_text_is_called_so_and_the_other_way_round() {
    let ca = Ca::new();
    let a = Backend::start("a").await;
    let error = refusal(a.addr, ca.trusted()).await;
    assert!(error.contains("does the server speak TLS"), "{error}");

    let front = Front::start(ca.server("127.0.0.1"), a.addr).await;
    let builder = Channel::builder(format!("static:{}", front.addr));
    let error = connect(builder).await.unwrap_err().to_string();
    assert!(error.contains(&front.addr.to_string()), "{error}");
    assert!(error.contains("the server speaks TLS"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_offer_http2_is_refused() {
    let ca = Ca::new();
    let a = Backend::start("a").await;
    for alpn in [None, Some("http/1.1")] {
        let mut config = ca.server("127.0.0.1");
        config.alpn_protocols = alpn.map(|alpn| alpn.into()).into_iter().collect();
        let front = Front::start(config, a.addr).await;
        let error = refusal(front.addr, ca.trusted()).await;
        assert!(error.contains("ALPN h2"), "{error}");
    }
}

#[tokio::test]
async fn clients_show_their_certificate_to_servers_that_ask() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let a = Backend::start("a").await;
    let front = Front::start(ca.server_for("127.0.0.1", &clients), a.addr).await;
    let me = clients.issue("client");
    let tls = ca.trusted().identity_pem(&*me.cert, &*me.key);
    let builder = Channel::builder(format!("static:{}", front.addr));
    let channel = connect(builder.tls(tls)).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");

    let error = refusal(front.addr, ca.trusted()).await;
    assert!(error.contains("CertificateRequired"), "{error}");
    let stranger = Ca::new().issue("client");
    let tls = ca.trusted().identity_pem(&*stranger.cert, &*stranger.key);
    let error = refusal(front.addr, tls).await;
    assert!(error.contains("UnknownCA"), "{error}");
}

#[tokio::test]
async fn a_rustls_config_of_ones_own_gets_alpn() {
    let ca = Ca::new();
    let a = Backend::start("a").await;
    let front = Front::start(ca.server("127.0.0.1"), a.addr).await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ca.roots())
        .with_no_client_auth();
    let builder = Channel::builder(format!("static:{}", front.addr));
    let builder = builder.tls(ClientTls::from_config(config));
    let channel = connect(builder).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn what_cannot_be_used_fails_before_anything_is_called() {
    let tls = ClientTls::new().ca_pem("nonsense");
    let builder = || Channel::builder("static:127.0.0.1:1");
    for (builder, setting) in [
        (builder().tls(tls.clone()), "Builder::tls: "),
        (builder().balancer_tls(tls), "Builder::balancer_tls: "),
    ] {
        let error = builder.connect_lazy().unwrap_err();
        assert!(matches!(error, Error::Tls(_)), "{error}");
        assert!(error.to_string().starts_with(setting), "{error}");
    }
}

/// An HTTP/2 server behind TLS that answers nothing and notes what it is asked.
async fn listener(config: ServerConfig) -> (SocketAddr, mpsc::UnboundedReceiver<Seen>, Process) {
    let process = Process::new();
    let listener = process.listen(ANY_PORT).await;
    let addr = listener.local_addr().unwrap();
    let (seen, asked) = mpsc::unbounded_channel();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    process.spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let socket = acceptor.accept(socket).await.unwrap();
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                let mut unanswered = vec![];
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let (parts, body) = request.into_parts();
                    let _ = seen.send(parts);
                    unanswered.push((respond, body));
                }
            });
        }
    });
    (addr, asked, process)
}

type Seen = http::request::Parts;

#[tokio::test]
async fn credentials_of_rpcs_are_for_backends_and_the_scheme_is_https() {
    let ca = Ca::new();
    let (balancer, mut asked_balancer, _lb) = listener(ca.server("lb.test")).await;
    let (backend, mut asked_backend, _a) = listener(ca.server("greeter.test")).await;
    let dns = zone_with_fallback(balancer).await;
    let channel = greeter(&dns, backend.port())
        .tls(ca.trusted())
        .balancer_tls(ca.trusted())
        .fallback_timeout(Duration::from_millis(10))
        .connect_lazy()
        .unwrap();
    let mut request = tonic::Request::new(HelloRequest::default());
    let secret = "Bearer secret".parse().unwrap();
    request.metadata_mut().insert("authorization", secret);
    let rpc = tokio::spawn(call(&channel, request));

    let seen = within("an RPC", asked_backend.recv()).await.unwrap();
    assert_eq!(seen.headers["authorization"], "Bearer secret");
    assert_eq!(seen.uri.scheme_str(), Some("https"));
    assert_eq!(seen.uri.host(), Some("greeter.test"));
    let seen = within("a stream", asked_balancer.recv()).await.unwrap();
    assert_eq!(seen.uri.path(), "/grpc.lb.v1.LoadBalancer/BalanceLoad");
    assert!(!seen.headers.contains_key("authorization"), "{seen:?}");
    assert_eq!(seen.uri.scheme_str(), Some("https"));
    assert_eq!(seen.uri.host(), Some("lb.test"));
    assert!(asked_balancer.try_recv().is_err());
    rpc.abort();
}
