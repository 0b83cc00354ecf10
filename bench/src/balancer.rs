//! The balancer: what `lookaside serve` runs, in a process of its own, with a
//! configuration file that can be edited.
//!
//! The process says `listening ADDR` and ends with stdin.

use std::fmt::{Display, Write as _};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use lookaside_server::app::{App, AppOptions};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backends::SERVICE;
use crate::child::{Child, say};

/// No balancer takes as long to start.
const PATIENCE: Duration = Duration::from_secs(30);

const PORTS: &str = "\
[balancer]
listen = \"127.0.0.1:0\"
[admin]
listen = \"127.0.0.1:0\"
";

#[derive(Debug, Args)]
pub(crate) struct BalancerArgs {
    /// The configuration.
    #[arg(long)]
    config: PathBuf,
}

/// Serves until stdin ends.
pub(crate) fn run(args: &BalancerArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    // The set ends with the runtime, and the runtime with this function.
    let mut tasks = JoinSet::new();
    let addr = runtime.block_on(async {
        let app = App::bind(&args.config, AppOptions::default()).await?;
        let addr = app.addresses().balancer;
        tasks.spawn(async move {
            if let Err(error) = app.run(CancellationToken::new()).await {
                eprintln!("the balancer ended: {error}");
            }
        });
        anyhow::Ok(addr)
    })?;
    say(format_args!("listening {addr}"))?;
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A balancer that runs until this is dropped.
pub(crate) struct Balancer {
    process: Child,
    // Removed, with the file in it, when this is dropped.
    folder: tempfile::TempDir,
    /// Where clients and backends ask it.
    pub(crate) addr: SocketAddr,
}

impl Balancer {
    /// Starts one with these services, as [`service`] writes them.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) async fn start(services: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for a configuration")?;
        let config = folder.path().join("lookaside.toml");
        std::fs::write(&config, format!("{PORTS}{services}"))?;
        let config = config.display().to_string();
        let mut process = Child::start(&["balancer".into(), "--config".into(), config])?;
        let addr = process.hear_text("listening", PATIENCE).await?.parse()?;
        Ok(Self {
            process,
            folder,
            addr,
        })
    }

    /// Replaces the services in its file; it follows within half a second.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn edit(&self, services: &str) -> Result<()> {
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{PORTS}{services}"))?;
        Ok(std::fs::rename(
            &new,
            self.folder.path().join("lookaside.toml"),
        )?)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// [`SERVICE`] in the file's words: these keys, and these backends, each with the
/// weight 1.
pub(crate) fn service(keys: &str, backends: &[SocketAddr]) -> String {
    let backends: Vec<(SocketAddr, u32)> = backends.iter().map(|addr| (*addr, 1)).collect();
    weighted(keys, &backends)
}

/// The same with weights.
pub(crate) fn weighted(keys: &str, backends: &[(SocketAddr, impl Display)]) -> String {
    let mut text = format!("[[service]]\nname = \"{SERVICE}\"\n{keys}\nbackends = [\n");
    for (addr, weight) in backends {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {{ address = \"{addr}\", weight = {weight} }},");
    }
    text.push_str("]\n");
    text
}
