//! Subsets and zones: which backends clients get by where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_tests::{Balancer, Follower, List, service, soon};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const GREETER: &str = "greeter.test";

/// Where a test's clients are: addresses of this machine.
fn client(net: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, net, host).into()
}

fn backends(count: u32) -> Vec<(SocketAddr, f64)> {
    let addr = |index: u32| (Ipv4Addr::from_bits(0x0a00_0001 + index), 80).into();
    (0..count).map(|index| (addr(index), 1.0)).collect()
}

fn in_subsets(count: u32) -> String {
    let text = service(GREETER, &backends(count));
    text.replace("backends", "subset = 20\nbackends")
}

fn addresses(list: &List) -> BTreeSet<SocketAddr> {
    list.counts().into_keys().collect()
}

async fn follow(balancer: &Balancer, client: IpAddr) -> (Follower, List) {
    let opened = Follower::open_from(client, balancer.addr(), GREETER).await;
    let mut follower = opened.unwrap();
    let list = follower.next_list().await;
    (follower, list)
}

/// The share of each backend over all lists, as a multiple of an even one: the
/// least and the most.
fn spread(lists: &[List], backends: usize) -> (f64, f64) {
    let mut shares: BTreeMap<SocketAddr, f64> = BTreeMap::new();
    for list in lists {
        for (addr, count) in list.counts() {
            *shares.entry(addr).or_default() += count as f64 / list.0.len() as f64;
        }
    }
    let even = lists.len() as f64 / backends as f64;
    let least = shares.values().copied().fold(f64::INFINITY, f64::min);
    let most = shares.values().copied().fold(0.0, f64::max);
    let least = if shares.len() < backends { 0.0 } else { least };
    (least / even, most / even)
}

#[tokio::test]
async fn clients_get_different_subsets_and_backends_equal_shares() {
    let balancer = Balancer::start(&in_subsets(300)).await;
    let mut lists = Vec::new();
    let (sender, mut news) = mpsc::channel(1000);
    let mut following = JoinSet::new();
    let mut subsets = BTreeSet::new();
    for net in 4..8 {
        for host in 1..=120 {
            let (mut follower, list) = follow(&balancer, client(net, host)).await;
            let subset = addresses(&list);
            assert_eq!(subset.len(), 20);
            subsets.insert(subset);
            let (index, sender) = (lists.len(), sender.clone());
            lists.push(list);
            following.spawn(async move {
                while let Ok(LoadBalanceResponseType::ServerList(list)) = follower.next().await {
                    sender.send((index, List(list.servers))).await.unwrap();
                }
            });
        }
    }
    assert!(subsets.len() > 60, "{}", subsets.len());
    // The balancer sees where its clients are, and evens out the backends. With four
    // to a group, a client that is not in the picture yet is a few percent.
    while !matches!(spread(&lists, 300), (0.75.., ..1.25)) {
        let mut next = soon("equal shares", news.recv()).await;
        while let Some((index, list)) = next {
            lists[index] = list;
            next = news.try_recv().ok();
        }
    }
    drop(following);
    balancer.stop().await;
}

#[tokio::test]
async fn same_client_same_subset_after_restart() {
    let mut runs = Vec::new();
    for order in [0, 1] {
        let balancer = Balancer::start(&in_subsets(300)).await;
        let mut followers = Vec::new();
        let mut subsets = BTreeMap::new();
        for host in 1..=60u8 {
            let host = if order == 0 { host } else { 61 - host };
            let (follower, list) = follow(&balancer, client(0, host)).await;
            subsets.insert(host, addresses(&list));
            followers.push(follower);
        }
        runs.push(subsets);
        balancer.stop().await;
    }
    let same = runs[0]
        .iter()
        .filter(|(host, subset)| runs[1][host] == **subset);
    let same = same.count();
    assert!(same >= 54, "{same} of 60");
}

/// Zones a, b and c of clients; backends in the first two.
fn in_zones() -> String {
    let mut text = String::new();
    for (net, zone) in [(1, "a"), (2, "b"), (3, "c")] {
        let _ = writeln!(
            text,
            "[[zone]]\nname = \"{zone}\"\ncidrs = [\"127.0.{net}.0/24\"]"
        );
    }
    let _ = writeln!(
        text,
        "[[service]]\nname = \"{GREETER}\"\nprefer_zone = true\nbackends = ["
    );
    for (index, (addr, _)) in backends(8).iter().enumerate() {
        let zone = if index < 4 { "a" } else { "b" };
        let _ = writeln!(text, "  {{ address = \"{addr}\", zone = \"{zone}\" }},");
    }
    text + "]\n"
}

#[tokio::test]
async fn clients_of_a_zone_get_its_backends() {
    let balancer = Balancer::start(&in_zones()).await;
    let addrs: Vec<SocketAddr> = backends(8).into_iter().map(|(addr, _)| addr).collect();
    for (net, wanted) in [(1, &addrs[..4]), (2, &addrs[4..]), (0, &addrs[..])] {
        let (_follower, list) = follow(&balancer, client(net, 1)).await;
        assert_eq!(addresses(&list), wanted.iter().copied().collect());
    }
    balancer.stop().await;
}

#[tokio::test]
async fn a_zone_without_capacity_spills() {
    let balancer = Balancer::start(&in_zones()).await;
    let (_in_c, list) = follow(&balancer, client(3, 1)).await;
    assert_eq!(addresses(&list).len(), 8);
    // A zone whose backends are drained is one without.
    let (mut in_b, list) = follow(&balancer, client(2, 1)).await;
    assert_eq!(addresses(&list).len(), 4);
    let drained = in_zones().replace("zone = \"b\" }", "zone = \"b\", drain = true }");
    balancer.edit(&drained);
    let list = in_b.next_list().await;
    let of_a: Vec<SocketAddr> = backends(4).into_iter().map(|(addr, _)| addr).collect();
    assert_eq!(addresses(&list), of_a.into_iter().collect());
    balancer.stop().await;
}
