//! Credentials that end while something is registered by them.

use std::path::Path;

use lookaside_client::ClientTls;
use lookaside_proto::registration_v1::registration::Where;
use lookaside_proto::registration_v1::{Outcome, Registration};
use lookaside_tests::{Authority, Balancer, Follower, Identity};
use tokio::net::TcpListener;

use crate::registration::{Raw, channel, local, said, tables, until_counted, until_listed};

const GREETER: &str = "greeter.test";

fn service(register: &str) -> String {
    format!("[[service]]\nname = \"{GREETER}\"\nregister = {{ {register} }}\n")
}

/// Waits until a backend is told this of its last service; why.
async fn until_told(stream: &mut Raw, outcome: Outcome) -> String {
    loop {
        let told = stream.registered().await.services.pop().unwrap();
        if told.outcome() == outcome {
            return told.error;
        }
    }
}

#[tokio::test]
async fn what_registered_by_a_token_goes_with_it_whether_its_stream_is_there_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
    // With leases so long that none of them ends here. A service that is opened later
    // does not wait for one to end.
    let tables = |listen: &str| tables(listen).replace("\"1s\"", "\"60s\"");
    let early = "[[service]]\nname = \"early.test\"\nregister = { cidrs = [\"127.0.0.0/8\"] }\n";
    let closed = format!("[[service]]\nname = \"{GREETER}\"\n");
    let services = format!("{early}{closed}");
    let balancer = Balancer::start_with(&tables("127.0.0.1:0"), &services).await;
    let channel = channel(balancer.addr()).await;
    let both = Registration {
        services: vec!["early.test".to_owned(), GREETER.to_owned()],
        ..said(Where::Port(81), "a")
    };
    let mut first = Raw::open(&channel, both, "one").await.unwrap();
    until_told(&mut first, Outcome::Forbidden).await;
    let open = service(&format!("token_file = \"{}\"", file.display()));
    let listen = balancer.addr().to_string();
    balancer.edit_whole(&format!("{}{early}{open}", tables(&listen)));
    until_told(&mut first, Outcome::Accepted).await;

    let register = async |port: u16, instance: &str, token: &str| {
        let registration = said(Where::Port(port.into()), instance);
        Raw::open(&channel, registration, token).await.unwrap()
    };
    let mut second = register(82, "b", "two").await;
    // Its stream breaks off, and as somebody listens there it stays until its lease ends.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let third = register(port, "c", "three").await;
    let mut follower = Follower::open(balancer.addr(), GREETER).await.unwrap();
    until_listed(&mut follower, &[local(81), local(82), local(port)]).await;

    std::fs::write(&file, "two\nthree\n").unwrap();
    until_listed(&mut follower, &[local(82), local(port)]).await;
    let told = until_told(&mut first, Outcome::Forbidden).await;
    assert!(told.contains("Bearer <token>"), "{told}");

    // It is in the file again, and the backend in the list, without anybody's doing.
    std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
    until_listed(&mut follower, &[local(81), local(82), local(port)]).await;
    until_told(&mut first, Outcome::Accepted).await;

    drop(third);
    std::fs::write(&file, "one\ntwo\n").unwrap();
    until_listed(&mut follower, &[local(81), local(82)]).await;
    let revoked = "lookaside_registrations_ended_total{reason=\"revoked\"} 2";
    until_counted(&balancer, revoked).await;

    std::fs::remove_file(&file).unwrap();
    until_listed(&mut follower, &[]).await;
    until_told(&mut second, Outcome::Forbidden).await;
    balancer.stop().await;
}

/// A balancer with TLS, which wants certificates of this CA.
struct Port {
    folder: tempfile::TempDir,
    servers: Authority,
    balancer: Balancer,
}

impl Port {
    async fn start(clients: &Authority, names: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let servers = Authority::new();
        let (cert, key) = servers.issue("lb.test").write(folder.path(), "lb");
        let (ca, crl) = (folder.path().join("ca.pem"), folder.path().join("ca.crl"));
        std::fs::write(&ca, clients.pem()).unwrap();
        std::fs::write(&crl, clients.revoke(&[])).unwrap();
        let [cert, key, ca, crl] = [&cert, &key, &ca, &crl].map(|path| path.display());
        let tables = format!(
            "[balancer]\nlisten = \"127.0.0.1:0\"\nreport_interval = \"1s\"\nshutdown = \
             \"100ms\"\n[balancer.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\nclient_ca = \
             \"{ca}\"\nclient_crl = \"{crl}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"
        );
        let services = service(&format!("client_names = [{names}]"));
        let balancer = Balancer::start_with(&tables, &services).await;
        Self {
            folder,
            servers,
            balancer,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn register(&self, port: u16, shows: &Identity) -> lookaside_backend::Registration {
        let tls = ClientTls::new()
            .ca_pem(self.servers.pem())
            .server_name("lb.test")
            .identity_pem(shows.cert(), shows.key());
        lookaside_backend::Registration::builder(format!("static:{}", self.balancer.addr()))
            .service(GREETER)
            .port(port)
            .tls(tls)
            .start()
            .unwrap()
    }

    /// Waits until so many backends are listed.
    async fn until_listed(&self, count: usize) {
        let line = format!("lookaside_backends{{service=\"{GREETER}\",state=\"serving\"}} {count}");
        until_counted(&self.balancer, &line).await;
    }
}

#[tokio::test]
async fn what_registered_by_a_certificate_goes_when_it_is_revoked_or_its_ca_is_replaced() {
    let clients = Authority::new();
    let id = "spiffe://example.org/greeter";
    let (named, known) = (clients.issue("greeter.test"), clients.issue(id));
    let names = format!("\"greeter.test\", \"{id}\"");
    let port = Port::start(&clients, &names).await;
    let _first = port.register(81, &named);
    let _second = port.register(82, &known);
    port.until_listed(2).await;

    std::fs::write(port.path().join("ca.crl"), clients.revoke(&[&named])).unwrap();
    port.until_listed(1).await;
    let revoked = "lookaside_registrations_ended_total{reason=\"revoked\"} 1";
    until_counted(&port.balancer, revoked).await;

    let others = Authority::new();
    std::fs::write(port.path().join("ca.pem"), others.pem()).unwrap();
    port.until_listed(0).await;
    let revoked = "lookaside_registrations_ended_total{reason=\"revoked\"} 2";
    until_counted(&port.balancer, revoked).await;
    port.balancer.stop().await;
}
