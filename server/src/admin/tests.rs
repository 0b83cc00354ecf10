//! The promises of the admin port, over real sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::catalogue::{CatalogueConfig, CatalogueMetrics};
use crate::config::parse;

/// Long enough for anything that should happen, and no test waits for it.
const SOON: Duration = Duration::from_secs(30);

/// An admin port in this process.
struct Port {
    addr: SocketAddr,
    catalogue: Arc<Catalogue>,
    rollout: Rollout,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Port {
    async fn start(limits: AdminLimits) -> Self {
        let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = admin.local_addr();
        let registry = MetricsRegistry::default();
        let metrics = registry.register(AdminMetrics::register);
        let catalogue = Catalogue::new(CatalogueMetrics::default());
        let rollout = Rollout::new(parse("", "lookaside.toml").unwrap());
        let state = AdminState {
            catalogue: Arc::clone(&catalogue),
            rollout: rollout.clone(),
            metrics: registry,
            draining: CancellationToken::new(),
        };
        let stop = CancellationToken::new();
        let served = tokio::spawn(admin.run(state, limits, metrics, stop.clone()));
        Self {
            addr,
            catalogue,
            rollout,
            stop,
            served,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// What is answered to this path, asked for with these headers.
    async fn get(&self, path: &str, headers: &str) -> String {
        let mut socket = self.connect().await;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: a\r\n{headers}connection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(SOON, socket.read_to_string(&mut answer)).await;
        read.expect("in time").unwrap();
        answer
    }
}

/// Waits until the other end closes, whatever it says before.
async fn closed(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let closed = timeout(SOON, socket.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "still open");
}

#[tokio::test]
async fn silent_connections_make_room_and_keep_nobody_out() {
    let port = Port::start(AdminLimits::new(2)).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(port.connect().await);
    }
    let answer = port.get("/livez", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // At most one of them can be left.
    for socket in &mut silent[..19] {
        closed(socket).await;
    }
    let page = port.get("/metrics", "").await;
    assert!(
        !page.contains("admin_connections_evicted_total 0\n"),
        "{page}"
    );
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_in_time() {
    let limits = AdminLimits {
        head_timeout: Duration::from_millis(50),
        ..AdminLimits::new(8)
    };
    let port = Port::start(limits).await;
    let mut silent = port.connect().await;
    let mut slow = port.connect().await;
    slow.write_all(b"GET /livez HT").await.unwrap();
    let mut idle = port.connect().await;
    let request = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    idle.write_all(request).await.unwrap();
    for socket in [&mut silent, &mut slow, &mut idle] {
        closed(socket).await;
    }
}

#[tokio::test]
async fn a_request_that_does_not_end_is_given_up() {
    let limits = AdminLimits {
        answer_timeout: Duration::from_millis(50),
        ..AdminLimits::new(8)
    };
    let port = Port::start(limits).await;
    let mut stuck = port.connect().await;
    stuck.write_all(b"GET /livez HT").await.unwrap();
    closed(&mut stuck).await;
}

#[tokio::test]
async fn metrics_are_text_unless_open_metrics_is_asked_for() {
    let port = Port::start(AdminLimits::new(8)).await;
    let text = port.get("/metrics", "").await;
    assert!(
        text.contains("content-type: text/plain; version=0.0.4"),
        "{text}"
    );
    assert!(text.contains("\n# TYPE lookaside_admin_connections_evicted_total counter\n"));
    assert!(!text.contains("# EOF"), "{text}");
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        assert!(text.contains(&format!("\n{name} ")), "{name}: {text}");
    }
    let accept = "accept: application/openmetrics-text;version=1.0.0\r\n";
    let open_metrics = port.get("/metrics", accept).await;
    let content_type = "content-type: application/openmetrics-text; version=1.0.0";
    assert!(open_metrics.contains(content_type), "{open_metrics}");
    assert!(open_metrics.contains("\n# TYPE lookaside_admin_connections_evicted counter\n"));
    assert!(open_metrics.ends_with("# EOF\n"), "{open_metrics}");
}

#[tokio::test]
async fn a_ready_balancer_says_which_configuration_it_runs() {
    let port = Port::start(AdminLimits::new(8)).await;
    port.catalogue.configure(CatalogueConfig::default());
    let ready = port.get("/readyz", "").await;
    let (head, body) = ready.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(
        body.starts_with("ok\nconfiguration 1 applied everywhere at 20"),
        "{ready}"
    );
    let part = port.rollout.part("DNS");
    port.rollout.replace(parse("", "lookaside.toml").unwrap());
    let pending = port.get("/readyz", "").await;
    assert!(
        pending.ends_with("; 2 not applied yet by: DNS\n"),
        "{pending}"
    );
    part.applied(&port.rollout.current());
    let applied = port.get("/readyz", "").await;
    assert!(
        applied.contains("configuration 2 applied everywhere at"),
        "{applied}"
    );
}

#[tokio::test]
async fn a_kept_connection_does_not_hold_up_the_end() {
    let port = Port::start(AdminLimits::new(8)).await;
    let _kept = port.connect().await;
    port.get("/livez", "").await;
    port.stop.cancel();
    timeout(SOON, port.served).await.expect("in time").unwrap();
}
