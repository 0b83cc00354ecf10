//! TLS towards backends: who inherits what, and what is refused.

use super::*;

/// The TLS of the service, of its health checks, and of its load.
type Three = [Option<BackendTls>; 3];

fn read(root: &str, service: &str) -> Three {
    let text = format!("{root}\n[[service]]\nname = \"a\"\n{service}");
    let service = parse(&text, "f").unwrap().services.remove(0);
    let health = service.health.and_then(|health| match health.kind {
        HealthKind::Grpc { tls, .. } => tls,
        HealthKind::Tcp => None,
    });
    let load = service.load.into_iter().next().and_then(|load| load.tls);
    [service.tls, health, load].map(|tls| tls.map(|tls| (*tls).clone()))
}

fn of(ca: Option<&str>, name: Option<&str>) -> Option<BackendTls> {
    Some(BackendTls {
        ca: ca.map(PathBuf::from),
        identity: None,
        server_name: name.map(str::to_owned),
    })
}

const ASKS: &str = "health = { kind = \"grpc\" }\nload = { kind = \"orca\" }\n";

#[test]
fn a_service_has_the_tls_of_all_unless_it_says_otherwise_key_by_key() {
    let root = "[backend_tls]\nca = \"all\"";
    let same = |tls: Option<BackendTls>| [tls.clone(), tls.clone(), tls];
    let asks = |tls: &str| format!("{tls}\n{ASKS}");
    let all = of(Some("all"), None);
    assert_eq!(read("", ASKS), same(None));
    assert_eq!(read("", &asks("tls = true")), same(of(None, None)));
    assert_eq!(read("", &asks("tls = {}")), same(of(None, None)));
    assert_eq!(read(root, ASKS), same(all.clone()));
    assert_eq!(read(root, &asks("tls = true")), same(all.clone()));
    assert_eq!(read(root, &asks("tls = false")), same(None));
    for name in ["x.test", "10.0.0.1", "::1", "spiffe://td/ns/x"] {
        let tls = format!("tls = {{ server_name = \"{name}\" }}");
        assert_eq!(read(root, &asks(&tls)), same(of(Some("all"), Some(name))));
    }
    let tls = "tls = { ca = \"own\" }";
    assert_eq!(read(root, &asks(tls)), same(of(Some("own"), None)));

    let page = "load = { kind = \"prometheus\", utilization = \"busy\", tls = false }";
    assert_eq!(read(root, page), [all.clone(), None, None]);
    let health = "health = { kind = \"grpc\", tls = { server_name = \"x\" } }";
    assert_eq!(read(root, health), [all, of(Some("all"), Some("x")), None]);
}

#[test]
fn whom_no_name_is_said_of_is_called_by_the_services_and_must_be_for_it() {
    let called = |tls: &str| {
        let text = format!("[[service]]\nname = \"a.test:443\"\n{ASKS}tls = {tls}");
        let service = parse(&text, "f").unwrap().services.remove(0);
        let Some(HealthKind::Grpc { authority, .. }) = service.health.map(|h| h.kind) else {
            panic!("it is checked by grpc");
        };
        assert_eq!(authority, service.load[0].authority);
        authority
    };
    assert_eq!(called("true").as_deref(), Some("a.test"));
    assert_eq!(called("false"), None);
    assert_eq!(called("{ server_name = \"b.test\" }"), None);
}

#[test]
fn tls_that_cannot_be_is_refused_with_what_would_be_right() {
    for (line, wanted) in [
        ("tls = 1", ".tls: this is a whole number, but a table"),
        (
            "tls = { cert = \"c\" }",
            ".tls.cert: a certificate is shown with its private key",
        ),
        (
            "tls = { key = \"k\" }",
            ".tls.key: a private key goes with its certificate",
        ),
        ("tls = { ca = \"\" }", ".tls.ca: this names no file"),
        (
            "tls = { ca_file = \"x\" }",
            ".tls.ca_file: unknown key `ca_file`",
        ),
        (
            "tls = { server_name = \"*.a.test\" }",
            ".tls.server_name: `*.a.test` is not a name in a certificate; write",
        ),
        (
            "tls = { server_name = \"spiffe://\" }",
            ".tls.server_name: `spiffe://` is not a name in a certificate; write",
        ),
        (
            "health = { kind = \"tcp\", tls = true }",
            ".health.tls: a tcp check only connects",
        ),
        (
            "register = { client_names = [\"spiffe:/x\"], token_file = \"t\" }",
            ".register.client_names[0]: `spiffe:/x` is not a name",
        ),
    ] {
        let fault = fault_in_service(line);
        assert!(fault.contains(wanted), "{line}: {fault}");
    }
    let port = |more: &str| {
        fault(&format!(
            "[balancer.tls]\ncert = \"c\"\nkey = \"k\"\n{more}"
        ))
    };
    let alone = port("client_crl = \"crl\"");
    assert!(
        alone.contains("balancer.tls.client_crl: clients show no"),
        "{alone}"
    );
    assert!(alone.contains("write client_ca"), "{alone}");
}
