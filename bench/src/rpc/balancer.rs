//! The balancer of the client under test: this repository's, with a fixed list.
//!
//! It says `listening ADDR` and ends with stdin.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::SocketAddr;

use anyhow::Result;
use clap::Args;
use lookaside_server::fleet::{Fleet, FleetConfig, FleetMetrics, ServiceEntry};
use lookaside_server::model::{BackendAddr, ServiceName};
use lookaside_server::plan::{Contribution, MemberFields, ServiceSettings, Source};
use tokio::task::JoinSet;

use crate::backends::SERVICE;
use crate::child::say;
use crate::serve;

#[derive(Debug, Args)]
pub(crate) struct BalancerArgs {
    /// The backends of its list.
    backends: Vec<SocketAddr>,
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
        let name = ServiceName::parse(SERVICE)?;
        let fleet = Fleet::new(FleetMetrics::default());
        fleet.configure(FleetConfig {
            services: vec![ServiceEntry {
                name: name.clone(),
                aliases: Vec::new(),
                settings: ServiceSettings::default(),
                sources: BTreeSet::from([Source::File]),
            }],
        });
        let backends = args.backends.iter().map(|addr| BackendAddr::new(*addr));
        let members = backends.map(|backend| Ok((backend?, MemberFields::default())));
        let members = members.collect::<Result<_>>()?;
        fleet.contribute(&name, Source::File, Contribution { members });
        serve::listen(([127, 0, 0, 1], 0).into(), fleet, &mut tasks)
    })?;
    say(format_args!("listening {addr}"))?;
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}
