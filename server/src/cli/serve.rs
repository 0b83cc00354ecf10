//! `lookaside serve`: the balancer.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Failure;
use crate::app::{Addresses, App, AppError, AppOptions};
use crate::net::raise_nofile;

/// What `main` allocates with.
const ALLOCATOR: &str = if cfg!(all(target_os = "linux", target_env = "gnu")) {
    "jemalloc"
} else {
    "system"
};

/// Arguments of `lookaside serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The configuration; read again when it changes, and on SIGHUP
    #[arg(long, value_name = "FILE", default_value = "lookaside.toml")]
    config: PathBuf,

    /// Let a changed file remove all or most services, or all backends of a service, at once; and be ready without services
    #[arg(long)]
    allow_empty: bool,

    /// Once listening, write the addresses there, as a JSON object
    #[arg(long, value_name = "FILE")]
    ports_file: Option<PathBuf>,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %args.config.display(),
        allocator = ALLOCATOR,
        tls = "rustls with ring",
        pid = std::process::id(),
        "starting"
    );
    match raise_nofile() {
        Ok(limit) => {
            let show = |n: Option<u64>| n.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
            let (before, now) = (show(limit.before), show(limit.now));
            info!(%before, %now, "open files (ulimit -n)");
        }
        Err(error) => warn!(%error, "cannot raise the number of open files (ulimit -n)"),
    }
    super::block_on(serve(args))
}

async fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let options = AppOptions {
        allow_empty: args.allow_empty,
        follow_sighup: true,
    };
    // Before anything listens: a signal that comes early must not kill us.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A task of its own: where a file hangs, a signal is heard all the same.
    let config = args.config.clone();
    let bound = tokio::spawn(async move { App::bind(&config, options).await });
    let app = tokio::select! {
        bound = bound => bound?.map_err(failure)?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    if let Some(path) = &args.ports_file {
        write_ports(path, &app.addresses())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }

    let stop = CancellationToken::new();
    let stop_on_signal = async {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "shutting down; a second signal ends at once");
        stop.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        ended = app.run(stop.clone()) => ended.map_err(failure),
        () = stop_on_signal => {
            warn!("second signal; ending at once");
            Ok(())
        }
    }
}

fn failure(error: AppError) -> Failure {
    if error.is_bad_input() {
        Failure::Input(error.into())
    } else {
        Failure::Run(error.into())
    }
}

/// Writes the addresses whole or not at all, for scripts that wait for them.
fn write_ports(path: &Path, addresses: &Addresses) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, addresses)?;
    file.write_all(b"\n")?;
    file.persist(path)?;
    Ok(())
}
