//! This repository's server, wired as the `lookaside` binary wires it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use lookaside_core::model::ServiceName;
use lookaside_core::plan::{Contribution, MemberFields, ServiceSettings, SourceKind};
use lookaside_server::balance_load::{BalanceLoad, BalanceLoadMetrics, Dispatch, StreamLimits};
use lookaside_server::catalogue::{Catalogue, CatalogueConfig, CatalogueMetrics, ServiceEntry};
use lookaside_server::net::{Limits, Listener, NetMetrics, Options, Shutdown, serve};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::Push;
use crate::backends::{SERVICE, backends};
use crate::clock;

struct Pusher {
    entries: usize,
    name: ServiceName,
    catalogue: Arc<Catalogue>,
}

pub(super) async fn start(
    addr: SocketAddr,
    entries: usize,
    tasks: &mut JoinSet<()>,
) -> Result<(SocketAddr, Box<dyn Push>)> {
    let name = ServiceName::parse(SERVICE)?;
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    catalogue.configure(CatalogueConfig {
        services: vec![ServiceEntry {
            name: name.clone(),
            aliases: Vec::new(),
            settings: ServiceSettings {
                // Every client gets all: what is measured are long lists.
                subset: Some(2000),
                ..ServiceSettings::default()
            },
            sources: BTreeSet::from([SourceKind::File.into()]),
        }],
    });
    let mut pusher = Pusher {
        entries,
        name,
        catalogue: Arc::clone(&catalogue),
    };
    pusher.push(0)?;
    let addr = listen(addr, catalogue, tasks)?;
    Ok((addr, Box::new(pusher)))
}

/// Serves `catalogue` to clients of one address. Gives where.
///
/// # Errors
/// If it cannot listen there.
fn listen(
    addr: SocketAddr,
    catalogue: Arc<Catalogue>,
    tasks: &mut JoinSet<()>,
) -> Result<SocketAddr> {
    let balance_load = BalanceLoad::new(
        catalogue,
        Duration::from_secs(5),
        StreamLimits::default(),
        BalanceLoadMetrics::default(),
    );
    let (_, health) = tonic_health::server::health_reporter();
    let dispatch = Dispatch::new(balance_load, Routes::new(health));
    let limits = Limits::default();
    let limits = Limits {
        // All clients have one address here.
        connections_per_peer: limits.connections,
        ..limits
    };
    let options = Options {
        tls: None,
        limits,
        shutdown: Shutdown {
            token: CancellationToken::new(),
            goaway_over: Duration::ZERO,
            deadline: Duration::ZERO,
        },
        metrics: NetMetrics::default(),
    };
    let listener = Listener::bind(addr)?;
    let addr = listener.local_addr();
    tasks.spawn(async move {
        if let Err(error) = serve(listener, dispatch, options).await {
            eprintln!("the port ended: {error}");
        }
    });
    Ok(addr)
}

impl Push for Pusher {
    fn push(&mut self, change: u64) -> Result<u64> {
        let before = clock::now();
        let backends = backends(self.entries, change)?.into_iter();
        let members = backends.map(|backend| (backend, MemberFields::default()));
        let contribution = members.collect::<Contribution>();
        self.catalogue
            .contribute(&self.name, SourceKind::File, contribution);
        Ok(before)
    }
}
