//! HAProxy and nginx as gRPC proxies, of one thread each, as Debian packs them.
//!
//! HTTP/2 without TLS on both sides, connections to backends kept and shared as
//! far as the proxy can, no limit to the RPCs of a connection, no log.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Until a proxy listens.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Haproxy,
    Nginx,
}

/// A proxy that is killed when this is dropped.
pub(super) struct Proxy {
    pub(super) addr: SocketAddr,
    pub(super) pid: u32,
    _process: Child,
    _directory: TempDir,
}

impl Kind {
    /// Its binary and its package.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// The version of what is installed, or `None` if nothing is.
    pub(super) fn version(self) -> Option<String> {
        let output = std::process::Command::new(self.binary()?)
            .arg("-v")
            .output();
        let output = output.ok()?;
        // One says it on stdout, the other on stderr.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        said.lines().next().map(str::to_owned)
    }

    /// Debian has them where an ordinary user's `PATH` does not look.
    fn binary(self) -> Option<std::path::PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let sbin = ["/usr/sbin", "/usr/local/sbin"].map(Into::into);
        let mut places = std::env::split_paths(&path).chain(sbin);
        places.find_map(|place: std::path::PathBuf| {
            let binary = place.join(self.as_str());
            binary.is_file().then_some(binary)
        })
    }

    /// Starts it in front of these backends and waits until it listens.
    ///
    /// # Errors
    /// If it does not come to that.
    pub(super) async fn start(self, backends: &[SocketAddr]) -> Result<Proxy> {
        let binary = self.binary();
        let binary = binary.with_context(|| format!("no {} installed", self.as_str()))?;
        let directory = TempDir::new()?;
        let addr = free()?;
        let config = match self {
            Self::Haproxy => haproxy(addr, backends),
            Self::Nginx => nginx(addr, backends, &directory.path().display().to_string()),
        };
        let file = directory.path().join("config");
        std::fs::write(&file, config)?;
        let mut command = Command::new(binary);
        match self {
            Self::Haproxy => command.arg("-db").arg("-f").arg(&file),
            Self::Nginx => command
                .arg("-p")
                .arg(directory.path())
                .args(["-e", "stderr", "-c"])
                .arg(&file),
        };
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.as_str()))?;
        let listens = tokio::time::timeout(PATIENCE, listens(addr, &mut process));
        let listens = listens.await.context("too late");
        listens
            .and_then(|listens| listens)
            .with_context(|| format!("{} does not listen on {addr}", self.as_str()))?;
        Ok(Proxy {
            addr,
            pid: process.id().context("a proxy without a process")?,
            _process: process,
            _directory: directory,
        })
    }
}

async fn listens(addr: SocketAddr, process: &mut Child) -> Result<()> {
    while TcpStream::connect(addr).await.is_err() {
        if let Some(status) = process.try_wait()? {
            bail!("it ended: {status}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A port that nobody has at the moment: these cannot be asked which one they
/// were given.
fn free() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

fn haproxy(addr: SocketAddr, backends: &[SocketAddr]) -> String {
    let backends = backends.iter().enumerate();
    let servers: String = backends
        .map(|(index, addr)| format!("  server s{index} {addr} proto h2 check\n"))
        .collect();
    format!(
        "global\n\
         \x20 nbthread 1\n\
         defaults\n\
         \x20 mode http\n\
         \x20 timeout connect 5s\n\
         \x20 timeout client 1h\n\
         \x20 timeout server 1h\n\
         \x20 option redispatch\n\
         frontend grpc\n\
         \x20 bind {addr} proto h2\n\
         \x20 default_backend grpc\n\
         backend grpc\n\
         \x20 balance roundrobin\n\
         \x20 http-reuse always\n\
         {servers}"
    )
}

fn nginx(addr: SocketAddr, backends: &[SocketAddr], directory: &str) -> String {
    let servers = backends.iter().map(|addr| format!("    server {addr};\n"));
    let servers: String = servers.collect();
    let users = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = users.map(|user| format!("  {user}_temp_path {directory}/{user};\n"));
    // One process, so that killing it leaves none behind.
    format!(
        "daemon off;\n\
         master_process off;\n\
         pid {directory}/pid;\n\
         error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         \x20 access_log off;\n\
         {}\
         \x20 keepalive_requests 1000000000;\n\
         \x20 keepalive_timeout 1h;\n\
         \x20 upstream grpc {{\n\
         {servers}\
         \x20   keepalive 256;\n\
         \x20   keepalive_requests 1000000000;\n\
         \x20   keepalive_timeout 1h;\n\
         \x20 }}\n\
         \x20 server {{\n\
         \x20   listen {addr} http2;\n\
         \x20   location / {{ grpc_pass grpc://grpc; }}\n\
         \x20 }}\n\
         }}\n",
        temporary.concat()
    )
}
