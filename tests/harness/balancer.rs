//! A balancer in this process, as `lookaside serve` runs it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lookaside_server::app::{Addresses, App, AppOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::soon;

/// Ports of one's own, and a short shutdown.
const PORTS: &str = r#"
[balancer]
listen = "127.0.0.1:0"
shutdown = "100ms"
[admin]
listen = "127.0.0.1:0"
metrics_interval = "0s"
[dns]
listen = "127.0.0.1:0"
"#;

/// A running balancer and its configuration file.
pub struct Balancer {
    folder: tempfile::TempDir,
    addresses: Addresses,
    stop: CancellationToken,
    running: JoinHandle<Result<(), lookaside_server::app::AppError>>,
}

impl Balancer {
    /// Starts with these services, TOML as [`service`] makes it.
    pub async fn start(services: &str) -> Self {
        Self::start_with(PORTS, services).await
    }

    /// Starts with other tables in front of the services.
    pub async fn start_with(tables: &str, services: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("lookaside.toml");
        std::fs::write(&config, format!("{tables}\n{services}")).unwrap();
        let app = App::bind(&config, AppOptions::default()).await.unwrap();
        let addresses = app.addresses();
        let stop = CancellationToken::new();
        let running = tokio::spawn(app.run(stop.clone()));
        Self {
            folder,
            addresses,
            stop,
            running,
        }
    }

    /// Replaces the file, as an editor does: a new one, renamed over it.
    pub fn edit(&self, services: &str) {
        self.edit_whole(&format!("{PORTS}\n{services}"));
    }

    /// Replaces the whole text of the file.
    pub fn edit_whole(&self, text: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.config()).unwrap();
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("lookaside.toml")
    }

    /// The folder of the file, for whatever else a test keeps there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where BalanceLoad is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addresses.balancer
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// Status and body of a GET from the admin port.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        soon("an answer", stream.read_to_string(&mut response))
            .await
            .unwrap();
        let status = response.split(' ').nth(1).unwrap().parse().unwrap();
        let body = response.split("\r\n\r\n").nth(1).unwrap_or_default();
        (status, body.to_owned())
    }

    /// Waits until a metric, its labels included, has this value.
    pub async fn metric(&self, name: &str, value: &str) {
        self.counted(&format!("lookaside_{name} {value}")).await;
    }

    /// Waits until this line is among the metrics.
    pub async fn counted(&self, line: &str) {
        let seen = async {
            loop {
                let (_, metrics) = self.get("/metrics").await;
                if metrics.lines().any(|metric| metric == line) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon(line, seen).await;
    }

    /// Waits until so many edits ended like this: `applied`, `unchanged`, `refused`
    /// or `held`.
    pub async fn reloads(&self, outcome: &str, count: usize) {
        let name = format!("config_reloads_total{{outcome=\"{outcome}\"}}");
        self.metric(&name, &count.to_string()).await;
    }

    /// Where DNS is.
    #[must_use]
    pub fn dns(&self) -> SocketAddr {
        self.addresses.dns.unwrap()
    }

    /// Begins a shutdown.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Shuts down, and waits until it is done.
    pub async fn stop(self) {
        self.stop.cancel();
        soon("the balancer's end", self.running)
            .await
            .unwrap()
            .unwrap();
    }
}

/// A `[[service]]` with these backends and weights.
#[must_use]
pub fn service(name: &str, backends: &[(SocketAddr, f64)]) -> String {
    let mut text = format!("[[service]]\nname = \"{name}\"\nbackends = [\n");
    for (addr, weight) in backends {
        let _ = writeln!(text, "  {{ address = \"{addr}\", weight = {weight} }},");
    }
    text.push_str("]\n");
    text
}
