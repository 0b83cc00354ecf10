//! For whom a certificate is, and whether it is trusted.

use rcgen::{BasicConstraints, SanType};

use super::*;

/// A self-signed certificate, as `openssl req -x509` makes it if `is_ca`.
struct SelfSigned {
    pem: String,
    config: ServerConfig,
}

impl SelfSigned {
    fn new(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            pem: certificate.pem(),
            config,
        }
    }
}

#[tokio::test]
async fn a_self_signed_certificate_that_is_itself_trusted_is_taken() {
    let a = Backend::start("a").await;
    let as_openssl = SelfSigned::new(|_| {});
    let leaf = SelfSigned::new(|params| params.is_ca = IsCa::ExplicitNoCa);
    for SelfSigned { pem, config } in [as_openssl, leaf] {
        let front = Front::start(config, a.addr).await;
        let builder = Channel::builder(format!("static:{}", front.addr));
        let channel = connect(builder.tls(ClientTls::new().ca_pem(pem))).await;
        assert_eq!(hello(&channel.unwrap()).await.unwrap(), "a");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_only_as_it_is_for_its_name_and_its_time() {
    let a = Backend::start("a").await;
    let one = SelfSigned::new(|_| {});
    let other = SelfSigned::new(|_| {});
    let front = Front::start(one.config, a.addr).await;
    let error = refusal(front.addr, ClientTls::new().ca_pem(other.pem)).await;
    for wanted in ["CA:TRUE", "trust this very certificate", "CA:FALSE"] {
        assert!(error.contains(wanted), "{error}");
    }
    let tls = ClientTls::new().ca_pem(one.pem).server_name("other.test");
    let error = refusal(front.addr, tls).await;
    for wanted in ["is for 127.0.0.1, not for \"other.test\"", "subjectAltName"] {
        assert!(error.contains(wanted), "{error}");
    }
    let old = SelfSigned::new(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let front = Front::start(old.config, a.addr).await;
    let error = refusal(front.addr, ClientTls::new().ca_pem(old.pem)).await;
    assert!(
        error.contains("expired") && error.contains("renew"),
        "{error}"
    );
    let future = SelfSigned::new(|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
    let front = Front::start(future.config, a.addr).await;
    let error = refusal(front.addr, ClientTls::new().ca_pem(future.pem)).await;
    assert!(
        error.contains("not valid for another") && error.contains("clocks"),
        "{error}"
    );
}

#[tokio::test]
async fn a_spiffe_id_is_compared_with_the_certificates_uris() {
    let ca = Ca::new();
    let a = Backend::start("a").await;
    let id = "spiffe://example.org/greeter";
    let uri = SanType::URI(id.try_into().unwrap());
    let front = Front::start(ca.server_with(vec![uri]), a.addr).await;
    let call = |id: &str| {
        let builder = Channel::builder(format!("static:{}", front.addr));
        builder.tls(ca.trusted().server_name(id))
    };
    let channel = connect(call(id)).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");

    let error = connect(call("spiffe://example.org/other"))
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(error.contains(id) && error.contains("/other"), "{error}");
    let error = refusal(front.addr, ca.trusted()).await;
    assert!(
        error.contains("is for ") && error.contains("127.0.0.1"),
        "{error}"
    );
    let stranger = Ca::new().trusted().server_name(id);
    let error = refusal(front.addr, stranger).await;
    assert!(error.contains("UnknownIssuer"), "{error}");
    let named = Front::start(ca.server("a.test"), a.addr).await;
    let error = refusal(named.addr, ca.trusted().server_name(id)).await;
    assert!(error.contains("a.test") && error.contains(id), "{error}");
}

#[tokio::test]
async fn who_shows_no_certificate_or_the_wrong_one_is_told_in_words() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let a = Backend::start("a").await;
    let front = Front::start(ca.server_for("127.0.0.1", &clients), a.addr).await;
    let error = refusal(front.addr, ca.trusted()).await;
    assert!(error.contains("wants a client certificate"), "{error}");
    let stranger = Ca::new().issue("client");
    let tls = ca.trusted().identity_pem(&*stranger.cert, &*stranger.key);
    let error = refusal(front.addr, tls).await;
    assert!(error.contains("does not trust the CA"), "{error}");
}
