//! Which balancers there are, and a session with each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use futures_util::stream::{SelectAll, StreamExt as _};
use lookaside_client::endpoint::Address;
use lookaside_client::resolve::{self, Reresolve, Resolution, ResolutionStream, Resolve};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Wanted;
use super::session::{Identity, Session};
use super::status::Board;
use crate::load::Load;

/// One target, looked up.
pub(super) struct Look {
    /// What balancers found by addresses alone are called.
    authority: String,
    target: String,
    resolutions: ResolutionStream,
    reresolve: Reresolve,
}

/// Every balancer, by address, and what it is called.
type Known = BTreeMap<SocketAddr, String>;

/// Keeps a session with each balancer that is known.
pub(super) struct Balancers {
    identity: Identity,
    wanted: watch::Receiver<Wanted>,
    board: Board,
    load: Load,
    looks: Vec<Look>,
}

impl Look {
    pub(super) fn new(authority: String, target: String, mut resolver: Box<dyn Resolve>) -> Self {
        let reresolve = Reresolve::default();
        Self {
            authority,
            target,
            resolutions: resolver.resolve(reresolve.clone()),
            reresolve,
        }
    }
}

impl Balancers {
    pub(super) fn new(
        identity: Identity,
        wanted: watch::Receiver<Wanted>,
        board: Board,
        load: Load,
        looks: Vec<Look>,
    ) -> Self {
        Self {
            identity,
            wanted,
            board,
            load,
            looks,
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut names = Vec::new();
        let mut reresolves = Vec::new();
        let mut resolutions = SelectAll::new();
        for (index, look) in self.looks.into_iter().enumerate() {
            names.push((look.authority, look.target));
            reresolves.push(look.reresolve);
            resolutions.push(look.resolutions.map(move |found| (index, found)));
        }
        let mut found: Vec<Known> = vec![Known::new(); names.len()];
        let known = watch::Sender::new(BTreeSet::new());
        let mut running = BTreeSet::new();
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                Some((index, resolution)) = resolutions.next() => {
                    let (authority, target) = &names[index];
                    match resolution {
                        Ok(resolution) => found[index] = balancers(&resolution, authority),
                        // What was known stays in use.
                        Err(error) => {
                            tracing::warn!(target = %target, %error, "no look at the balancers");
                            continue;
                        }
                    }
                }
                Some(ended) = sessions.join_next() => {
                    if let Ok(addr) = ended {
                        running.remove(&addr);
                    }
                }
                else => std::future::pending().await,
            }
            let all: Known = found
                .iter()
                .flatten()
                .map(|(a, n)| (*a, n.clone()))
                .collect();
            known.send_replace(all.keys().copied().collect());
            for (addr, authority) in all {
                if running.insert(addr) {
                    let session = Session {
                        addr,
                        authority,
                        identity: self.identity.clone(),
                        wanted: self.wanted.clone(),
                        known: known.subscribe(),
                        board: self.board.clone(),
                        load: self.load.clone(),
                        reresolve: reresolves.clone(),
                    };
                    sessions.spawn(session.run());
                }
            }
        }
    }
}

/// Those that the resolver calls balancers; if it knows of none, the addresses of
/// the name itself are.
fn balancers(resolution: &Resolution, authority: &str) -> Known {
    if let resolve::Balancers::Known(balancers) = &resolution.balancers
        && !balancers.is_empty()
    {
        let balancers = balancers.iter().map(|b| (b.addr, b.authority.clone()));
        return balancers.collect();
    }
    let addresses = resolution.endpoints.iter().map(|e| &e.address);
    let addresses = addresses.filter_map(|address| match address {
        Address::Tcp(addr) => Some((*addr, authority.to_owned())),
        // A backend elsewhere could not be told apart by its ip.
        _ => None,
    });
    addresses.collect()
}
