//! Backends whose health is checked, and those of which something breaks.

mod checks;
mod killed;
mod odd;
mod suspects;

use std::net::SocketAddr;

use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_tests::{Balancer, Follower, List, service};

use crate::registration::until_counted;

const GREETER: &str = "greeter.test";

/// A service with these backends and further keys.
fn with(keys: &str, backends: &[SocketAddr]) -> String {
    let backends: Vec<(SocketAddr, f64)> = backends.iter().map(|addr| (*addr, 1.0)).collect();
    named(GREETER, keys, &backends)
}

pub(crate) fn named(name: &str, keys: &str, backends: &[(SocketAddr, f64)]) -> String {
    service(name, backends).replacen("backends", &format!("{keys}\nbackends"), 1)
}

/// The list's backends, each once; of a fallback none.
fn listed(told: LoadBalanceResponseType) -> Vec<SocketAddr> {
    match told {
        LoadBalanceResponseType::ServerList(list) => {
            List(list.servers).counts().into_keys().collect()
        }
        _ => Vec::new(),
    }
}

async fn next(follower: &mut Follower) -> Vec<SocketAddr> {
    listed(follower.next().await.unwrap())
}

/// Follows until a list has exactly these backends.
pub(crate) async fn until_listed(follower: &mut Follower, wanted: &[SocketAddr]) {
    let mut wanted = wanted.to_vec();
    wanted.sort();
    while next(follower).await != wanted {}
}

async fn follow(balancer: &Balancer) -> Follower {
    Follower::open(balancer.addr(), GREETER).await.unwrap()
}

/// A balancer whose service has these backends and further keys, and a client that
/// was told of them all.
async fn with_all_listed(keys: &str, backends: &[SocketAddr]) -> (Balancer, Follower) {
    let balancer = Balancer::start(&with(keys, backends)).await;
    let mut follower = follow(&balancer).await;
    until_listed(&mut follower, backends).await;
    (balancer, follower)
}

async fn until_state(balancer: &Balancer, state: &str, count: usize) {
    let line = format!("lookaside_backends{{service=\"{GREETER}\",state=\"{state}\"}} {count}");
    until_counted(balancer, &line).await;
}
