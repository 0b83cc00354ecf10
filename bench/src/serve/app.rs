//! This repository's server as a whole, as `lookaside serve` runs it: changes come
//! by its configuration file, or from backends that register.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use lookaside_backend::Registration;
use lookaside_server::app::{App, AppOptions};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Input, Push, Size};
use crate::backends::{SERVICE, backends};
use crate::balancer::service;
use crate::clock;

/// What backends show that register.
const TOKEN: &str = "bench";

struct Pusher {
    size: Size,
    input: Input,
    // Removed, with the file in it, when this is dropped.
    folder: tempfile::TempDir,
    balancer: SocketAddr,
    /// The port of every backend that registers.
    port: u16,
    registered: Vec<Registration>,
    runtime: Handle,
}

/// Starts it with the list before any change. Gives where it listens.
///
/// # Errors
/// If it does not start.
pub(super) async fn start(
    addr: SocketAddr,
    size: Size,
    input: Input,
    tasks: &mut JoinSet<()>,
) -> Result<(SocketAddr, Box<dyn Push>)> {
    // A backend that registers is listed once it can be connected to: one listener
    // is all of them, each with another address of loopback.
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    let port = listener.local_addr()?.port();
    tasks.spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.push(connection);
        }
    });

    let folder = tempfile::tempdir().context("cannot make a folder for a configuration")?;
    let config = config_file(folder.path());
    std::fs::write(folder.path().join("tokens"), TOKEN)?;
    std::fs::write(&config, text(addr, folder.path(), size, 0)?)?;
    let app = App::bind(&config, AppOptions::default()).await?;
    let balancer = app.addresses().balancer;
    tasks.spawn(async move {
        if let Err(error) = app.run(CancellationToken::new()).await {
            eprintln!("the balancer ended: {error}");
        }
    });
    let pusher = Pusher {
        size,
        input,
        folder,
        balancer,
        port,
        registered: Vec::new(),
        runtime: Handle::current(),
    };
    Ok((balancer, Box::new(pusher)))
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("lookaside.toml")
}

fn text(addr: SocketAddr, folder: &Path, size: Size, change: u64) -> Result<String> {
    let backends = backends(size.entries, change)?;
    let backends: Vec<SocketAddr> = backends
        .iter()
        .map(|backend| backend.socket_addr())
        .collect();
    // All clients have one address here.
    let connections = size.streams + 50;
    // Every client gets all.
    let keys = format!(
        "subset = 2000\nregister = {{ token_file = \"{}\", any_address = true }}",
        folder.join("tokens").display()
    );
    Ok(format!(
        "[balancer]\nlisten = \"{addr}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [limits]\nconnections = {connections}\nconnections_per_address = {connections}\n{}",
        service(&keys, &backends)
    ))
}

impl Pusher {
    fn edit(&self, change: u64) -> Result<u64> {
        let new = self.folder.path().join("new");
        std::fs::write(
            &new,
            text(self.balancer, self.folder.path(), self.size, change)?,
        )?;
        let before = clock::now();
        std::fs::rename(&new, config_file(self.folder.path()))?;
        Ok(before)
    }

    fn register(&mut self, change: u64) -> Result<u64> {
        let [.., high, low] = change.to_be_bytes();
        let ip = IpAddr::V4(Ipv4Addr::new(127, 128, high, low));
        let _runtime = self.runtime.enter();
        let before = clock::now();
        let registration = Registration::builder(format!("static:{}", self.balancer))
            .service(SERVICE)
            .token(TOKEN)
            .address(SocketAddr::new(ip, self.port))
            .start()?;
        self.registered.push(registration);
        Ok(before)
    }
}

impl Push for Pusher {
    fn push(&mut self, change: u64) -> Result<u64> {
        match self.input {
            // The first change brings the whole list.
            Input::Registration if change > 1 => self.register(change),
            Input::Registration | Input::File => self.edit(change),
            Input::Memory => bail!("`ours` without a file is for changes by memory"),
        }
    }
}
