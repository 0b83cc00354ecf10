//! Which balancers there are, and a session with each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use futures_util::stream::{SelectAll, StreamExt as _};
use lookaside_client::endpoint::Address;
use lookaside_client::resolve::{self, Reresolve, Resolution, ResolutionStream, Resolve};
#[cfg(feature = "dns")]
use lookaside_client::resolve::{Dns, DnsResolver};
use lookaside_client::{DEFAULT_PORT, Target, TargetError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::builder::RegistrationError;
use super::session::{Identity, Session};
use super::status::Board;
use super::{Phase, Wanted};
use crate::load::Load;

/// One target, looked up.
pub(super) struct Lookup {
    /// What balancers found by addresses alone are called.
    authority: String,
    target: String,
    /// Whether the target says on which port a balancer listens; else SRV does.
    port: bool,
    resolutions: ResolutionStream,
    reresolve: Reresolve,
}

/// Every balancer, by address, and what it is called.
type BalancerNames = BTreeMap<SocketAddr, String>;

/// Keeps a session with each balancer that is known.
pub(super) struct Balancers {
    identity: Identity,
    wanted: watch::Receiver<Wanted>,
    board: Board,
    load: Load,
    looks: Vec<Lookup>,
}

/// Begins to look up the balancers of `target`.
///
/// # Errors
/// If no balancer can be there.
pub(super) fn look(target: String) -> Result<Lookup, RegistrationError> {
    let unusable = |reason: String| RegistrationError::Target {
        target: target.clone(),
        reason,
    };
    let parsed: Target = target
        .parse()
        .map_err(|error: TargetError| unusable(error.reason))?;
    // The default is what a port that is not there becomes.
    let is_missing = |port: u16| port == DEFAULT_PORT && !target.contains(":443");
    let mut port = true;
    match &parsed {
        Target::Dns {
            host, port: None, ..
        } => {
            if host.parse::<IpAddr>().is_ok() {
                // There is no SRV of an address.
                return Err(unusable(missing_port(host)));
            }
            port = false;
        }
        Target::Listed(hosts) => {
            for (host, port) in hosts {
                if is_missing(*port) {
                    return Err(unusable(missing_port(host)));
                }
            }
        }
        Target::Static(addresses) => {
            for address in addresses {
                match address {
                    Address::Tcp(addr) if is_missing(addr.port()) => {
                        return Err(unusable(missing_port(&addr.ip().to_string())));
                    }
                    Address::Tcp(_) => {}
                    other => {
                        let reason = format!("{other} is not an address of TCP");
                        return Err(unusable(reason));
                    }
                }
            }
        }
        _ => {}
    }
    let mut resolver = resolver(&parsed).map_err(|error| unusable(error.to_string()))?;
    let reresolve = Reresolve::default();
    Ok(Lookup {
        authority: parsed.authority(),
        target,
        port,
        resolutions: resolver.resolve(reresolve.clone()),
        reresolve,
    })
}

fn missing_port(host: &str) -> String {
    format!("the balancer's port is missing after {host}; write it, like `:9000`")
}

/// One that hears of balancers that are added, though all is well with the others.
fn resolver(target: &Target) -> Result<Box<dyn Resolve>, lookaside_client::Error> {
    match target {
        #[cfg(feature = "dns")]
        Target::Dns {
            server, host, port, ..
        } => {
            let resolver = DnsResolver::new(Dns::of(*server)?, host, *port);
            Ok(Box::new(resolver.refresh_by_ttl(true)))
        }
        other => resolve::for_target(other, false),
    }
}

impl Balancers {
    pub(super) fn new(
        identity: Identity,
        wanted: watch::Receiver<Wanted>,
        board: Board,
        load: Load,
        looks: Vec<Lookup>,
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
            names.push((look.authority, look.target, look.port));
            reresolves.push(look.reresolve);
            resolutions.push(look.resolutions.map(move |found| (index, found)));
        }
        let mut found: Vec<BalancerNames> = vec![BalancerNames::new(); names.len()];
        let known = watch::Sender::new(BTreeSet::new());
        let mut running = BTreeSet::new();
        let mut sessions = JoinSet::new();
        let mut wanted = self.wanted.clone();
        loop {
            tokio::select! {
                Some((index, resolution)) = resolutions.next() => {
                    let (authority, target, port) = &names[index];
                    match resolution {
                        Ok(resolution) => {
                            found[index] = balancers(&resolution, authority, *port);
                            let none = found[index].is_empty() && !resolution.pending;
                            let error = none.then(|| no_balancer(authority, *port));
                            if let Some(error) = &error {
                                tracing::warn!(target = %target, %error, "no balancer is known");
                            }
                            self.board.looked_up(index, error);
                        }
                        // What was known stays in use.
                        Err(error) => {
                            tracing::warn!(target = %target, %error, "the balancers cannot be looked up");
                            self.board.looked_up(index, Some(error.to_string()));
                            continue;
                        }
                    }
                }
                Ok(()) = wanted.changed() => {
                    wanted.borrow_and_update();
                }
                Some(ended) = sessions.join_next() => {
                    if let Ok(addr) = ended {
                        running.remove(&addr);
                    }
                }
                else => std::future::pending().await,
            }
            let all: BalancerNames = found
                .iter()
                .flatten()
                .map(|(a, n)| (*a, n.clone()))
                .collect();
            known.send_replace(all.keys().copied().collect());
            if wanted.borrow().phase == Phase::Leaving {
                continue;
            }
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
/// the name itself are, if the target has a port for them.
fn balancers(resolution: &Resolution, authority: &str, port: bool) -> BalancerNames {
    if let resolve::Balancers::Known(balancers) = &resolution.balancers
        && !balancers.is_empty()
    {
        let balancers = balancers.iter().map(|b| (b.addr, b.authority.clone()));
        return balancers.collect();
    }
    let addresses = resolution.endpoints.iter().filter(|_| port);
    let addresses = addresses.filter_map(|endpoint| match &endpoint.address {
        Address::Tcp(addr) => Some((*addr, authority.to_owned())),
        // A backend elsewhere could not be told apart by its ip.
        _ => None,
    });
    addresses.collect()
}

fn no_balancer(authority: &str, port: bool) -> String {
    match port {
        true => format!("{authority} has no addresses"),
        false => format!(
            "SRV _grpclb._tcp.{authority} names no balancer, and {}",
            missing_port(authority)
        ),
    }
}
