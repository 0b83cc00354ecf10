//! The balancers of a service: the addresses of what its SRV records name.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::BalancerAddress;
use super::look::Lookup;
use super::records::shorter;
use super::srv::{SrvTarget, order};
use crate::error::ResolveError;
use crate::until::until;

/// SRV records that are looked into; a service has a handful of balancers.
const MAX_TARGETS: usize = 32;
/// Targets that are looked up at the same time.
const AT_ONCE: usize = 8;
/// How long the first balancer that is known waits for better ones.
const PATIENCE: Duration = Duration::from_millis(500);
/// Reasons that are told of targets that are left out.
const MAX_REASONS: usize = 3;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct SrvBalancers {
    /// In the order to try them; none if the service has no balancer.
    pub(super) balancers: Vec<BalancerAddress>,
    /// For how long that holds.
    pub(super) ttl: Option<Duration>,
    /// Which ones are left out, and why.
    pub(super) left_out: Option<String>,
}

/// The balancers that the SRV records `name` lead to. Each target stands for
/// itself: one that cannot be looked up takes no other with it, and one that is
/// slow holds up the others for a short time only, after which `some` gets those
/// that are known so far. It hears at once that there are targets.
///
/// # Errors
/// If there is no answer, or the targets could not be looked up.
pub(super) async fn find<L: Lookup>(
    lookup: &L,
    name: String,
    mut rng: fastrand::Rng,
    some: mpsc::Sender<Vec<BalancerAddress>>,
) -> Result<SrvBalancers, ResolveError> {
    let found = lookup.srv(&name).await?;
    let (mut targets, mut ttl) = (found.list, found.ttl);
    if !targets.is_empty() {
        // There is a balancer, and where is still to come. Nobody listens if the look
        // is over.
        let _ = some.send(vec![]).await;
    }
    order(&mut targets, &mut rng);
    let count = targets.len();
    targets.truncate(MAX_TARGETS);
    let mut reasons = BTreeSet::new();
    if count > MAX_TARGETS {
        reasons.insert(format!(
            "SRV {name} has {count} records, of which {MAX_TARGETS} count"
        ));
    }
    // In the order to try them, each once.
    let mut hosts: Vec<String> = vec![];
    for srv in &targets {
        if !hosts.contains(&srv.host) {
            hosts.push(srv.host.clone());
        }
    }
    let lookups = stream::iter(hosts).map(|host| async move {
        // Fully qualified: no search domains are tried behind it.
        let ips = lookup.ips(&format!("{host}.")).await;
        (host, ips)
    });
    let mut lookups = std::pin::pin!(lookups.buffer_unordered(AT_ONCE));
    let mut known = HashMap::new();
    let mut failed = None;
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            looked = lookups.next() => match looked {
                None => break,
                Some((host, Ok(ips))) if ips.is_empty() => {
                    reasons.insert(format!(
                        "{host} has no addresses in DNS, looked up {}",
                        lookup.asked()
                    ));
                }
                Some((host, Ok(ips))) => {
                    ttl = shorter(ttl, ips.ttl);
                    known.insert(host, ips.list);
                    due.get_or_insert_with(|| Instant::now() + PATIENCE);
                }
                Some((_, Err(error))) => {
                    reasons.insert(error.0.clone());
                    failed = Some(error);
                }
            },
            () = until(due) => {
                due = None;
                // Nobody listens if the look is over.
                let _ = some.send(addresses(&targets, &known)).await;
            }
        }
    }
    match failed {
        Some(error) if known.is_empty() => Err(error),
        _ => Ok(SrvBalancers {
            balancers: addresses(&targets, &known),
            ttl,
            left_out: told(&reasons),
        }),
    }
}

fn addresses(targets: &[SrvTarget], known: &HashMap<String, Vec<IpAddr>>) -> Vec<BalancerAddress> {
    let mut seen = BTreeSet::new();
    let mut balancers = vec![];
    for srv in targets {
        for ip in known.get(&srv.host).into_iter().flatten() {
            let addr = SocketAddr::new(*ip, srv.port);
            if seen.insert((addr, &srv.host)) {
                balancers.push(BalancerAddress {
                    addr,
                    authority: srv.host.clone(),
                });
            }
        }
    }
    balancers
}

/// Some of the reasons: they may be as many as there are targets.
fn told(reasons: &BTreeSet<String>) -> Option<String> {
    let some: Vec<_> = reasons.iter().take(MAX_REASONS).cloned().collect();
    let more = match reasons.len() - some.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    (!some.is_empty()).then(|| some.join("; ") + &more)
}
