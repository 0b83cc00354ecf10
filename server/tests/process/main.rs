//! `lookaside serve` as a process: what it logs where nothing takes it, what peers can
//! do to it, and what happens when it runs out of files.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "another process is waited for, with no clock but the real one"
)]

mod output;
mod own_faults;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const VALID: &str = r#"
[balancer]
listen = "127.0.0.1:0"
shutdown = "100ms"
[admin]
listen = "127.0.0.1:0"

[[service]]
name = "greeter.test"
backends = [{ address = "10.0.0.1:80" }]
register = { cidrs = ["127.0.0.0/8"] }
"#;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration, which names itself.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self::with(VALID)
    }

    fn with(config: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::write(folder.path("lookaside.toml"), config).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A running `lookaside serve`. Killed if a test fails before it ends.
struct Serve {
    child: Child,
    balancer: SocketAddr,
    admin: SocketAddr,
}

impl Serve {
    /// Waits until it listens.
    fn start(folder: &Folder, arguments: &[&str], log: impl Into<Stdio>) -> Self {
        let ports = folder.path("ports");
        let mut child = lookaside()
            .args(arguments)
            .args(["serve", "--config"])
            .arg(folder.path("lookaside.toml"))
            .arg("--ports-file")
            .arg(&ports)
            .stderr(log)
            .spawn()
            .unwrap();
        let began = Instant::now();
        let written = loop {
            if let Ok(written) = std::fs::read(&ports) {
                break written;
            }
            assert_eq!(child.try_wait().unwrap(), None, "it ended");
            assert!(began.elapsed() < PATIENCE);
            thread::sleep(Duration::from_millis(5));
        };
        let ports: serde_json::Value = serde_json::from_slice(&written).unwrap();
        let port = |of: &str| ports[of].as_str().unwrap().parse().unwrap();
        Self {
            child,
            balancer: port("balancer"),
            admin: port("admin"),
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ends on SIGTERM.
    fn end(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lookaside() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lookaside"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}
