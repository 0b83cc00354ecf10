//! What the groups of a service promise.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{Weight, Zone, ZoneTable};
use crate::plan::Merged;

/// A service's groups, as plans ask for them.
#[derive(Debug, Default)]
struct Service {
    grouping: Grouping,
    settings: ServiceSettings,
    members: Vec<Member>,
    clients: Clients,
    now: u64,
}

fn addr(number: usize) -> BackendAddr {
    let [_, _, high, low] = (number as u32).to_be_bytes();
    format!("10.0.{high}.{low}:80").parse().unwrap()
}

fn member(number: usize, weight: f64, zone: Option<&str>) -> Member {
    let merged = Merged {
        addr: addr(number),
        weight: Weight::new(weight).unwrap(),
        zone: zone.map(Zone::from),
        drain: false,
        incarnation: None,
        labels: Default::default(),
    };
    Member {
        listed: true,
        ..Member::new(&merged, BackendState::Serving)
    }
}

fn zones(names: &[&str]) -> Option<Arc<ZoneTable>> {
    let zone = |name: &&str| (Zone::from(*name), Vec::new());
    Some(Arc::new(ZoneTable::new(names.iter().map(zone).collect())))
}

impl Service {
    fn new(weights: &[f64], subset: usize) -> Self {
        let members = weights.iter().enumerate();
        let members = members.map(|(number, weight)| member(number, *weight, None));
        Self {
            settings: ServiceSettings {
                subset: Some(subset),
                ..ServiceSettings::default()
            },
            members: members.collect(),
            ..Self::default()
        }
    }

    fn group(&mut self) -> Grouped {
        self.now += 60;
        let wanted = Wanted {
            settings: &self.settings,
            drops: &[],
            operator_weights: true,
            mean: None,
            clients: &self.clients,
            now: Duration::from_secs(self.now),
        };
        self.grouping.group(&mut self.members, wanted)
    }

    /// So many streams in each list.
    fn seat(&mut self, streams: impl Fn(usize) -> u32) {
        let layout = self.group().layout;
        let streams = (0..layout.lists()).map(streams);
        self.clients = Clients {
            streams: streams.collect(),
            layout,
        };
    }

    /// Each member's share of all calls, from what the clients are really sent,
    /// as a multiple of what its weight says.
    fn shares(&mut self) -> Vec<f64> {
        let grouped = self.group();
        let all: u32 = self.clients.streams.iter().sum();
        let mut shares = vec![0.0; self.members.len()];
        for (group, streams) in grouped.groups.iter().zip(&self.clients.streams) {
            let GroupPlan::Servers(spec) = group else {
                panic!("a list without backends");
            };
            let sum: f64 = spec.backends.iter().map(|backend| backend.weight).sum();
            for backend in &spec.backends {
                let index = self.members.iter().position(|m| m.addr == backend.addr);
                shares[index.unwrap()] +=
                    f64::from(*streams) / f64::from(all) * backend.weight / sum;
            }
        }
        let sum: f64 = self.members.iter().map(Member::weight).sum();
        for (share, member) in shares.iter_mut().zip(&self.members) {
            // What is noted is what is sent.
            assert!((*share * sum / member.effective - 1.0).abs() < 1e-6);
            *share *= sum / member.weight();
        }
        shares
    }
}

/// The backends of each list.
fn listed(grouped: &Grouped) -> Vec<Vec<BackendAddr>> {
    let lists = grouped.groups.iter().map(|group| match group {
        GroupPlan::Servers(spec) => spec.backends.iter().map(|b| b.addr).collect(),
        GroupPlan::Fallback => Vec::new(),
    });
    lists.collect()
}

/// Backends that are in only one of two.
fn differing(a: &[Vec<BackendAddr>], b: &[Vec<BackendAddr>]) -> usize {
    let pairs = a.iter().zip(b);
    let changed = pairs.map(|(a, b)| {
        let only = |a: &[BackendAddr], b: &[BackendAddr]| {
            a.iter()
                .filter(|addr| b.binary_search(addr).is_err())
                .count()
        };
        only(a, b) + only(b, a)
    });
    changed.sum()
}

#[test]
fn up_to_a_hundred_backends_are_all_in_one_list() {
    let mut service = Service::new(&[1.0; 100], 100);
    service.settings.subset = None;
    assert_eq!(service.group().groups.len(), 1);
    let mut service = Service::new(&[1.0; 120], 100);
    service.settings.subset = None;
    let grouped = service.group();
    assert_eq!(grouped.groups.len(), 16);
    assert!(listed(&grouped).iter().all(|list| list.len() == 60));
}

#[test]
fn a_service_without_backends_tells_every_group_to_fall_back() {
    let mut service = Service::new(&[1.0; 300], 20);
    for member in &mut service.members {
        member.listed = false;
    }
    let grouped = service.group();
    assert_eq!(grouped.groups, vec![GroupPlan::Fallback; 120]);
}

#[test]
fn a_restart_deals_the_same() {
    let mut service = Service::new(&[1.0; 300], 20);
    service.seat(|list| 5 + (list % 3) as u32);
    let before = listed(&service.group());
    let saved = service.grouping.save();
    let text = serde_json::to_string(&saved).unwrap();
    service.grouping = Grouping::load(serde_json::from_str(&text).unwrap());
    service.clients = Clients::default();
    assert_eq!(listed(&service.group()), before);
    // One that knows nothing deals the same, too.
    service.grouping = Grouping::default();
    assert_eq!(listed(&service.group()), before);
}

#[test]
fn a_backend_that_fails_leaves_its_groups_and_few_others_change() {
    let mut service = Service::new(&[1.0; 300], 20);
    let before = listed(&service.group());
    service.members[7].listed = false;
    let after = listed(&service.group());
    assert!(after.iter().all(|list| list.len() >= 19));
    let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert!(changed <= 48, "{changed} of 120 groups");
}

#[test]
fn clients_of_a_zone_get_its_backends() {
    let mut service = Service::new(&[1.0; 90], 100);
    for (number, member) in service.members.iter_mut().enumerate() {
        member.zone = Some(["a", "b", "c"][number % 3].into());
    }
    service.settings.zones = zones(&["a", "b", "c"]);
    service.seat(|_| 50);
    let lists = listed(&service.group());
    assert_eq!(lists.len(), 4);
    // Who stands nowhere gets all.
    assert_eq!(lists[0].len(), 90);
    for (zone, list) in lists[1..].iter().enumerate() {
        let of_zone = (0..90).filter(|number| number % 3 == zone).map(addr);
        assert_eq!(*list, of_zone.collect::<Vec<_>>());
    }
    for share in service.shares() {
        assert!((share - 1.0).abs() < 1e-9);
    }
}

#[test]
fn a_zone_without_capacity_spills() {
    let mut service = Service::new(&[1.0; 40], 100);
    for (number, member) in service.members.iter_mut().enumerate() {
        // Ten in a, twenty in b, and ten that stand nowhere.
        member.zone = [Some("a"), Some("b"), Some("b"), None][number % 4].map(Zone::from);
    }
    service.settings.zones = zones(&["a", "b", "empty"]);
    service.seat(|list| [0, 50, 30, 20][list]);
    let grouped = service.group();
    // A quarter of the capacity for half of the clients.
    let spilled: Vec<i64> = grouped
        .spilled
        .iter()
        .map(|s| (s * 100.0).round() as i64)
        .collect();
    assert_eq!(spilled, [0, 50, 0, 100]);
    for share in service.shares() {
        assert!((share - 1.0).abs() < 0.031, "{share}");
    }
    // Nobody in zone a is healthy: its clients get the others.
    for member in &mut service.members {
        member.listed = member.zone.as_deref() != Some("a");
    }
    let grouped = service.group();
    assert_eq!(grouped.spilled[1], 1.0);
    assert_eq!(listed(&grouped)[1].len(), 30);
}

#[test]
fn zones_have_subsets_and_shares_are_right() {
    let weights: Vec<f64> = (0..240).map(|n| [1.0, 1.0, 2.0, 0.5][n % 4]).collect();
    let mut service = Service::new(&weights, 20);
    for (number, member) in service.members.iter_mut().enumerate() {
        member.zone = Some(["a", "b", "c", "a"][number / 60].into());
    }
    service.settings.zones = zones(&["a", "b", "c"]);
    // Half of the clients in b, which has a quarter of the capacity.
    service.seat(|_| 0);
    let groups = service.clients.layout.groups();
    service.seat(|list| 10 * [0, 2, 4, 2][list / groups] + (list % 4) as u32);
    for list in listed(&service.group()) {
        assert!((15..=45).contains(&list.len()), "{}", list.len());
    }
    for share in service.shares() {
        assert!((share - 1.0).abs() < 0.05, "{share}");
    }
}

proptest! {
    #[test]
    fn every_backend_is_in_as_many_groups_and_gets_its_share(
        weights in proptest::collection::vec(0.5..2.0, 101..300),
        subset in 10usize..50,
        seed: u64,
    ) {
        let mut service = Service::new(&weights, subset);
        service.seat(|list| 15 + (score(seed, list as u64) % 11) as u32);
        let grouped = service.group();
        let lists = listed(&grouped);
        prop_assert_eq!(lists.len(), 8 * weights.len().div_ceil(subset));
        let least = lists.iter().map(Vec::len).min().unwrap();
        for list in &lists {
            prop_assert!(list.len() <= subset && list.len() <= least + 1);
        }
        let mut groups = BTreeMap::new();
        for addr in lists.iter().flatten() {
            *groups.entry(addr).or_insert(0) += 1;
        }
        prop_assert!(groups.values().all(|groups| *groups == 8));
        for share in service.shares() {
            prop_assert!((share - 1.0).abs() < 0.05, "{share}");
        }
    }

    #[test]
    fn a_join_moves_few_seats(count in 110usize..300, subset in 10usize..50) {
        let mut service = Service::new(&vec![1.0; count], subset);
        let before = listed(&service.group());
        service.members.push(member(count, 1.0, None));
        let after = listed(&service.group());
        prop_assert_eq!(before.len(), after.len());
        // Its own eight, and two or three others in a round, each out of one group
        // and into another.
        let moved = differing(&before, &after);
        prop_assert!(moved <= 8 + 2 * 8 * 8, "{moved} of {}", count * 8);
    }

    #[test]
    fn no_clients_and_no_weights_break_it(
        weights in proptest::collection::vec(1e-6..1e6, 1..120),
        subset in 1usize..40,
        moments in proptest::collection::vec(
            (proptest::collection::vec(0u32..5, 0..50), 0u8..=100, any::<u64>()),
            1..5,
        ),
    ) {
        let mut service = Service::new(&weights, subset);
        service.settings.zones = zones(&["a", "b"]);
        for (number, member) in service.members.iter_mut().enumerate() {
            member.zone = [None, Some("a"), Some("b"), Some("c")][number % 4].map(Zone::from);
        }
        // Backends come and go, and what was dealt before is there.
        for (streams, percent, seed) in moments {
            for (number, member) in service.members.iter_mut().enumerate() {
                member.listed = score(seed, number as u64) % 100 < u64::from(percent);
            }
            service.seat(|list| streams.get(list).copied().unwrap_or_default());
            let grouped = service.group();
            prop_assert_eq!(grouped.groups.len(), grouped.layout.lists());
            let any = service.members.iter().any(|member| member.listed);
            for group in &grouped.groups {
                match group {
                    GroupPlan::Fallback => prop_assert!(!any),
                    GroupPlan::Servers(spec) => {
                        prop_assert!(!spec.backends.is_empty());
                        let sound = |w: f64| w.is_finite() && w > 0.0;
                        prop_assert!(spec.backends.iter().all(|b| sound(b.weight)));
                    }
                }
            }
            for member in service.members.iter().filter(|member| member.listed) {
                prop_assert!(member.effective.is_finite() && member.effective > 0.0);
            }
        }
    }
}
