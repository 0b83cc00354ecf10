//! Backends that speak TLS are checked and asked as others are.

use std::net::SocketAddr;
use std::path::Path;

use lookaside_tests::{Authority, Balancer, Checked, Follower, HealthMethods, TlsFront, service};

use crate::health::{named, until_listed};
use crate::load::{Page, reporting, until_polled};
use crate::registration::until_counted;

const GREETER: &str = "greeter.test";

/// Fast, but not faster than a busy machine answers.
const HEALTH: &str = "health = { kind = \"grpc\", interval = \"300ms\", timeout = \"300ms\", unhealthy_threshold = 2 }";

/// A folder with a CA's certificate in it, `ca.pem`.
struct Files {
    ca: Authority,
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            ca: Authority::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(files.folder.path().join("ca.pem"), files.ca.pem()).unwrap();
        files
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `[backend_tls]` with this CA and further keys.
    fn table(&self, keys: &str) -> String {
        let ca = self.path().join("ca.pem");
        format!("[backend_tls]\nca = \"{}\"\n{keys}\n", ca.display())
    }

    /// TLS in front of a backend that is serving, with a certificate for this name.
    async fn backend(&self, name: &str) -> (Checked, TlsFront) {
        let checked = Checked::start(HealthMethods::Both).await;
        let config = self.ca.issue(name).server(None);
        let front = TlsFront::start(config, checked.addr()).await;
        (checked, front)
    }
}

fn with(tls: &str, keys: &str, backends: &[SocketAddr]) -> String {
    let backends: Vec<(SocketAddr, f64)> = backends.iter().map(|addr| (*addr, 1.0)).collect();
    format!("{tls}{}", named(GREETER, keys, &backends))
}

async fn follow(balancer: &Balancer) -> Follower {
    Follower::open(balancer.addr(), GREETER).await.unwrap()
}

#[tokio::test]
async fn backends_with_tls_are_checked_and_asked_over_one_connection() {
    let files = Files::new();
    let (a, front_a) = files.backend(GREETER).await;
    let (b, front_b) = files.backend(GREETER).await;
    let both = [front_a.addr(), front_b.addr()];
    let keys = format!("{HEALTH}\nload = {{ kind = \"orca\", interval = \"1s\" }}");
    let balancer = Balancer::start(&with(&files.table(""), &keys, &both)).await;
    let mut follower = follow(&balancer).await;
    until_listed(&mut follower, &both).await;
    let good = "lookaside_health_checked_backends{probe=\"good\"} 2";
    until_counted(&balancer, good).await;
    until_counted(&balancer, "lookaside_load_streams 2").await;
    assert_eq!((a.accepted(), b.accepted()), (1, 1));

    drop(front_a);
    until_listed(&mut follower, &both[1..]).await;
    balancer.stop().await;
}

#[tokio::test]
async fn backends_with_tls_that_want_a_certificate_are_shown_one() {
    let files = Files::new();
    let clients = Authority::new();
    let mut fronts = Vec::new();
    for _ in 0..2 {
        let checked = Checked::start(HealthMethods::Both).await;
        let config = files.ca.issue(GREETER).server(Some(&clients));
        let front = TlsFront::start(config, checked.addr()).await;
        fronts.push((checked, front));
    }
    let addrs = [fronts[0].1.addr(), fronts[1].1.addr()];
    let (cert, key) = clients
        .issue("balancer.test")
        .write(files.path(), "balancer");
    let shown = format!("cert = \"{}\"\nkey = \"{}\"", cert.display(), key.display());
    let balancer = Balancer::start(&with(&files.table(&shown), HEALTH, &addrs)).await;
    let good = "lookaside_health_checked_backends{probe=\"good\"} 2";
    until_counted(&balancer, good).await;
    balancer.stop().await;

    // Without one, none is reached, and all stay listed.
    let balancer = Balancer::start(&with(&files.table(""), HEALTH, &addrs)).await;
    let failed = "lookaside_health_checked_backends{probe=\"bad\"} 2";
    until_counted(&balancer, failed).await;
    until_listed(&mut follow(&balancer).await, &addrs).await;
    balancer.stop().await;
}

#[tokio::test]
async fn who_is_called_otherwise_or_speaks_plaintext_is_out_and_if_all_do_all_stay() {
    let files = Files::new();
    let (_a, a) = files.backend(GREETER).await;
    let (_b, b) = files.backend(GREETER).await;
    let (_c, c) = files.backend(GREETER).await;
    let (_other, other) = files.backend("other.test").await;
    let plain = Checked::start(HealthMethods::Both).await;
    let good = [a.addr(), b.addr(), c.addr()];
    let all = [a.addr(), b.addr(), c.addr(), other.addr(), plain.addr()];
    let table = files.table("");
    let balancer = Balancer::start(&with(&table, HEALTH, &all)).await;
    let mut follower = follow(&balancer).await;
    until_listed(&mut follower, &good).await;

    // Those whom the balancer cannot reach alone: then it may be its own fault.
    let others = [other.addr(), plain.addr()];
    balancer.edit(&with(&table, HEALTH, &others));
    until_listed(&mut follower, &others).await;
    let failed = "lookaside_health_checked_backends{probe=\"bad\"} 2";
    until_counted(&balancer, failed).await;
    until_listed(&mut follow(&balancer).await, &others).await;

    // What the operator may write about it, which needs no restart.
    let named = "tls = { server_name = \"other.test\" }";
    let keys = format!("{HEALTH}\n{named}");
    balancer.edit(&with(&table, &keys, &others));
    until_listed(&mut follower, &others[..1]).await;
    let keys = format!("{HEALTH}\ntls = false");
    balancer.edit(&with(&table, &keys, &others));
    until_listed(&mut follower, &others[1..]).await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_rotated_ca_is_judged_by_without_a_restart() {
    let files = Files::new();
    let (_a, a) = files.backend(GREETER).await;
    let (_b, b) = files.backend(GREETER).await;
    let renewed = Files::new();
    let (_c, c) = renewed.backend(GREETER).await;
    let (_d, d) = renewed.backend(GREETER).await;
    let (old, new) = ([a.addr(), b.addr()], [c.addr(), d.addr()]);
    let all = [a.addr(), b.addr(), c.addr(), d.addr()];
    let balancer = Balancer::start(&with(&files.table(""), HEALTH, &all)).await;
    let mut follower = follow(&balancer).await;
    until_listed(&mut follower, &old).await;

    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, files.ca.pem() + &renewed.ca.pem()).unwrap();
    until_listed(&mut follower, &all).await;
    std::fs::write(&ca, renewed.ca.pem()).unwrap();
    until_listed(&mut follower, &new).await;
    // A change that is of no use changes nothing.
    std::fs::write(&ca, "nonsense").unwrap();
    let refused = "lookaside_backend_tls_reloads_total{successful=\"false\"} 1";
    until_counted(&balancer, refused).await;
    let good = "lookaside_health_checked_backends{probe=\"good\"} 2";
    until_counted(&balancer, good).await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_backend_that_is_known_by_a_spiffe_id_is_verified_by_its_uri() {
    let files = Files::new();
    let ours = "spiffe://example.org/greeter";
    let (_a, a) = files.backend(ours).await;
    let (_b, b) = files.backend(ours).await;
    let (_c, c) = files.backend("spiffe://example.org/other").await;
    let all = [a.addr(), b.addr(), c.addr()];
    let keys = format!("{HEALTH}\ntls = {{ server_name = \"{ours}\" }}");
    let balancer = Balancer::start(&with(&files.table(""), &keys, &all)).await;
    until_listed(&mut follow(&balancer).await, &all[..2]).await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_page_for_prometheus_is_read_by_https_and_in_plaintext_where_that_is_said() {
    let files = Files::new();
    let page = Page::start().await;
    page.show("busy 4\n");
    let front = TlsFront::start(files.ca.issue(GREETER).server(None), page.addr).await;
    let load = |port: u16, tls: &str| {
        let load = format!(
            "load = {{ kind = \"prometheus\", interval = \"1s\", port = {port}, utilization = \
             \"busy\", capacity = 8{tls} }}"
        );
        with(&files.table(""), &load, &[front.addr()])
    };
    let balancer = Balancer::start(&load(front.addr().port(), "")).await;
    until_polled(&balancer, "prometheus", "answered").await;
    balancer.edit(&load(page.addr.port(), ""));
    until_polled(&balancer, "prometheus", "tls").await;
    balancer.stop().await;
    let balancer = Balancer::start(&load(page.addr.port(), ", tls = false")).await;
    until_polled(&balancer, "prometheus", "answered").await;
    balancer.stop().await;
}

#[tokio::test]
async fn two_services_of_one_backend_that_trust_otherwise_share_no_connection() {
    let files = Files::new();
    let (a, front) = files.backend(GREETER).await;
    let stranger = Files::new();
    let ca = stranger.path().join("ca.pem");
    let one = with(&files.table(""), HEALTH, &[front.addr()]);
    let keys = format!("{HEALTH}\ntls = {{ ca = \"{}\" }}", ca.display());
    let other = named("other.test", &keys, &[(front.addr(), 1.0)]);
    let plain = service("plain.test", &[(front.addr(), 1.0)]);
    let balancer = Balancer::start(&format!("{one}{other}{plain}")).await;
    for (probe, count) in [("good", 1), ("bad", 1)] {
        let line = format!("lookaside_health_checked_backends{{probe=\"{probe}\"}} {count}");
        until_counted(&balancer, &line).await;
    }
    assert_eq!(a.accepted(), 1);
    balancer.stop().await;
}

#[tokio::test]
async fn reports_that_come_over_tls_count() {
    let files = Files::new();
    let mut tasks = tokio::task::JoinSet::new();
    let (_load, addr) = reporting(0.5, &mut tasks).await;
    let front = TlsFront::start(files.ca.issue(GREETER).server(None), addr).await;
    let load = "load = { kind = \"orca\", interval = \"1s\" }";
    let balancer = Balancer::start(&with(&files.table(""), load, &[front.addr()])).await;
    let taken = "lookaside_load_reports_total{result=\"taken\"} 2";
    until_counted(&balancer, taken).await;
    balancer.stop().await;
}
