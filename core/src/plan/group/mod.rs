//! Which clients get which backends.
//!
//! Of a service with few backends every client gets all. With more, clients are
//! in *groups*, and each group has its subset ([`deal`]): equally many backends,
//! equally heavy, every backend in as many groups as any other. Where the
//! service prefers zones, the clients of each zone have groups of their own, with
//! lists of the zone's backends and of others as far as those do not suffice
//! ([`spill`]).
//!
//! Fleet-wide, a backend's share of all calls is to be what its weight says. Were
//! clients spread over the groups exactly as backends are, nothing were left to
//! do; as they are not, a backend may be listed in its groups with a little more
//! or less ([`level`]).

mod deal;
mod demand;
mod layout;
mod level;
mod part;
mod rendezvous;
mod spill;

#[cfg(test)]
mod tests;

pub use demand::Clients;
pub use layout::Layout;
pub use rendezvous::score;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::demand::{Demand, SavedDemand};
use self::layout::groups_for;
use self::level::{Level, Weighed};
use self::part::{Part, Pool, seats};
use super::{BackendState, Member, ServiceSettings};
use crate::list::{ListSpec, ListedBackend};
use crate::model::{BackendAddr, DropShare};

/// About how many backends a client gets at most, if the operator does not say.
pub const USUAL_SUBSET: usize = 100;

/// A backend counts as getting no less than this of what its weight says: to
/// divide by nothing tells a policy nothing.
const LEAST_EFFECTIVE: f64 = 0.05;

/// What one group of clients is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupPlan {
    /// A server list.
    Servers(ListSpec),
    /// `fallback_response`: the service has no backend that may be called.
    Fallback,
}

/// What is remembered of a service's groups from plan to plan.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    /// Groups of a round.
    per_round: Option<usize>,
    /// How backends were dealt, by pool and seats.
    parts: BTreeMap<(Pool, usize), Part>,
    demand: Demand,
    /// Factors on the backends' weights, by address.
    factors: Vec<(BackendAddr, f64)>,
}

/// What is saved of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedGrouping {
    per_round: Option<usize>,
    demand: Option<SavedDemand>,
}

/// What groups are made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) settings: &'a ServiceSettings,
    /// Shares of all calls to drop.
    pub(super) drops: &'a [DropShare],
    /// Whether the weights are the operator's own.
    pub(super) operator_weights: bool,
    /// The mean weight that lists are scaled by.
    pub(super) mean: Option<f64>,
    pub(super) clients: &'a Clients,
    pub(super) now: Duration,
}

/// The groups of a service.
#[derive(Debug)]
pub(super) struct Grouped {
    pub(super) layout: Layout,
    /// By list.
    pub(super) groups: Vec<GroupPlan>,
    /// Share of each audience's calls that leave its zone.
    pub(super) spilled: Vec<f64>,
}

impl Grouping {
    /// Groups the clients, and notes what weight each member's share of all calls
    /// comes to.
    pub(super) fn group(&mut self, members: &mut [Member], wanted: Wanted<'_>) -> Grouped {
        let subset = wanted.settings.subset.unwrap_or(USUAL_SUBSET).max(1);
        let known = members.iter().filter(|m| m.state != BackendState::Draining);
        let per_round = groups_for(known.count(), subset, self.per_round);
        self.per_round = Some(per_round);
        let layout = Layout::new(wanted.settings.zones.clone(), per_round);
        for member in members.iter_mut() {
            member.effective = member.weight();
        }
        let spilled = vec![0.0; layout.audiences()];
        if !members.iter().any(|member| member.listed) {
            return Grouped {
                groups: vec![GroupPlan::Fallback; layout.lists()],
                layout,
                spilled,
            };
        }
        if layout.lists() == 1 {
            self.parts.clear();
            self.factors.clear();
            let weights: Vec<f64> = members.iter().map(Member::weight).collect();
            let all = (0u32..).zip(weights).filter(|(_, weight)| *weight > 0.0);
            let spec = spec(
                members,
                &all.collect::<Weighed>(),
                wanted.operator_weights,
                wanted,
            );
            return Grouped {
                groups: vec![GroupPlan::Servers(spec)],
                layout,
                spilled,
            };
        }
        self.lists(members, layout, subset, wanted)
    }

    /// Whether clients are so much elsewhere that lists should be made anew.
    pub(super) fn has_moved(&self, clients: &Clients) -> bool {
        clients.layout.lists() > 1 && self.demand.has_moved(clients)
    }

    /// Whether there are several groups, so that what is remembered counts.
    pub(super) fn learns(&self) -> bool {
        !self.parts.is_empty()
    }

    fn lists(
        &mut self,
        members: &mut [Member],
        layout: Layout,
        subset: usize,
        wanted: Wanted<'_>,
    ) -> Grouped {
        let shares = self.demand.shares(&layout, wanted.clients, wanted.now);
        let weights: Vec<f64> = members.iter().map(Member::weight).collect();
        let sum: f64 = weights.iter().sum();
        let targets: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();

        let pools = Pool::of(members, &layout);
        let rows = spill_rows(&pools, &targets, &layout, shares.as_deref());
        let lists = self.deal((members, &pools), &weights, &layout, subset, &rows);
        let before = self.factors(members);
        let level = match &shares {
            Some(shares) => {
                let moved = self.demand.is_renewed();
                level::level(&lists, shares, &targets, &before, moved)
            }
            None => Level {
                shares: targets,
                factors: before,
            },
        };
        for (index, member) in members.iter_mut().enumerate().filter(|(_, m)| m.listed) {
            let least = LEAST_EFFECTIVE * member.weight();
            member.effective = (level.shares[index] * sum).max(least);
        }
        let factors = members.iter().zip(&level.factors);
        self.factors = factors
            .map(|(member, factor)| (member.addr, *factor))
            .collect();

        let groups = lists.into_iter().map(|Mixed { mut list, scaled }| {
            let mut own = wanted.operator_weights && !scaled;
            for (index, weight) in &mut list {
                let factor = level.factors[*index as usize];
                own &= factor == 1.0;
                *weight *= factor;
            }
            GroupPlan::Servers(spec(members, &list, own, wanted))
        });
        Grouped {
            groups: groups.collect(),
            spilled: spilled(&rows),
            layout,
        }
    }

    /// Every list, before any factor.
    fn deal(
        &mut self,
        members: (&[Member], &[Pool]),
        weights: &[f64],
        layout: &Layout,
        subset: usize,
        rows: &[Vec<f64>],
    ) -> Vec<Mixed> {
        let mut used: BTreeMap<_, Part> = BTreeMap::new();
        let mut part = |pool: Pool, seats: usize, old: &mut BTreeMap<_, Part>| {
            let key = (pool, seats);
            used.entry(key)
                .or_insert_with(|| Part::deal(old.remove(&key), members, layout, key));
            key
        };
        // Which parts the lists of each audience have, and with what share.
        let mut audiences = vec![vec![(part(Pool::All, subset, &mut self.parts), 1.0)]];
        for (zone, row) in rows.iter().enumerate() {
            let shares = row.iter().enumerate().filter(|(_, share)| **share > 0.0);
            let parts = shares.map(|(other, share)| {
                let seats = if other == zone {
                    subset
                } else {
                    seats(subset, *share)
                };
                let pool = match other < layout.zones().len() {
                    true => Pool::Zone(other),
                    false => Pool::Elsewhere,
                };
                (part(pool, seats, &mut self.parts), *share)
            });
            audiences.push(parts.collect());
        }
        let mut lists = Vec::new();
        for parts in &audiences {
            for group in 0..layout.groups() {
                let parts = parts.iter();
                let parts = parts.map(|(key, share)| (used[key].group(group), *share));
                lists.push(mixed(&parts.collect::<Vec<_>>(), weights));
            }
        }
        self.parts = used;
        lists
    }

    /// The factors that the members had; 1 for who is new.
    fn factors(&self, members: &[Member]) -> Vec<f64> {
        let mut known = self.factors.iter().peekable();
        let factor = |member: &Member| {
            while known.next_if(|(addr, _)| *addr < member.addr).is_some() {}
            let found = known.next_if(|(addr, _)| *addr == member.addr);
            found.map_or(1.0, |(_, factor)| *factor)
        };
        members.iter().map(factor).collect()
    }

    pub(super) fn save(&self) -> SavedGrouping {
        SavedGrouping {
            per_round: self.per_round,
            demand: self.demand.save(),
        }
    }

    pub(super) fn load(saved: SavedGrouping) -> Self {
        Self {
            per_round: saved
                .per_round
                .filter(|groups| (1..100_000).contains(groups)),
            demand: Demand::load(saved.demand),
            ..Self::default()
        }
    }
}

/// A list of backends from one or more parts.
#[derive(Debug)]
struct Mixed {
    list: Weighed,
    /// Whether weights are none that an operator wrote, for there are several
    /// parts.
    scaled: bool,
}

impl AsRef<Weighed> for Mixed {
    fn as_ref(&self) -> &Weighed {
        &self.list
    }
}

/// A list of these parts, each with its share of the list's calls. The largest
/// keeps its weights, so that lists scale alike.
fn mixed(parts: &[(impl Iterator<Item = u32> + Clone, f64)], weights: &[f64]) -> Mixed {
    let weight = |index: u32| weights[index as usize];
    let sums = parts
        .iter()
        .map(|(part, _)| part.clone().map(weight).sum::<f64>());
    let sums: Vec<f64> = sums.collect();
    let shares = parts.iter().map(|(_, share)| *share).zip(&sums);
    let full = shares.enumerate().filter(|(_, (_, sum))| **sum > 0.0);
    let largest = full.reduce(|a, b| if b.1.0 > a.1.0 { b } else { a });
    let Some((largest, (most, whole))) = largest else {
        return Mixed {
            list: Weighed::new(),
            scaled: false,
        };
    };
    let mut list = Weighed::new();
    for (part, ((members, share), sum)) in parts.iter().zip(&sums).enumerate() {
        let scale = if part == largest {
            1.0
        } else {
            share / most * whole / sum
        };
        list.extend(members.clone().map(|index| (index, weight(index) * scale)));
    }
    list.sort_unstable_by_key(|(index, _)| *index);
    Mixed {
        list,
        scaled: parts.len() > 1,
    }
}

/// The share of each zone's calls that goes to each zone of backends, and behind
/// those to all others; no rows without zones.
fn spill_rows(
    pools: &[Pool],
    targets: &[f64],
    layout: &Layout,
    clients: Option<&[f64]>,
) -> Vec<Vec<f64>> {
    let zones = layout.zones().len();
    if zones == 0 {
        return Vec::new();
    }
    let mut capacity = vec![0.0; zones + 1];
    for (pool, target) in pools.iter().zip(targets) {
        match pool {
            Pool::Zone(zone) => capacity[*zone] += target,
            Pool::All | Pool::Elsewhere => capacity[zones] += target,
        }
    }
    let audience = |clients: &[f64], zone: usize| {
        let first = layout.list(zone + 1, 0);
        clients[first..first + layout.groups()].iter().sum()
    };
    let demand = clients.map(|clients| (0..zones).map(|zone| audience(clients, zone)));
    let demand: Option<Vec<f64>> = demand.map(Iterator::collect);
    let all = demand.as_ref().map_or(0.0, |demand| demand.iter().sum());
    // Clients of unknown zones call all backends alike, so what is left for the
    // others is in proportion to what there is.
    let demand = match demand {
        Some(demand) if all > 0.0 => demand.iter().map(|share: &f64| share / all).collect(),
        _ => capacity[..zones].to_vec(),
    };
    spill::spill(&demand, &capacity)
}

/// The share of each audience's calls that leaves its zone; 0 for that without.
fn spilled(rows: &[Vec<f64>]) -> Vec<f64> {
    let rows = rows.iter().enumerate();
    let away = rows.map(|(zone, row)| (1.0 - row[zone]).max(0.0));
    std::iter::once(0.0).chain(away).collect()
}

fn spec(
    members: &[Member],
    list: &[(u32, f64)],
    operator_weights: bool,
    wanted: Wanted<'_>,
) -> ListSpec {
    let backends = list.iter().map(|(index, weight)| ListedBackend {
        addr: members[*index as usize].addr,
        weight: *weight,
    });
    ListSpec {
        backends: backends.collect(),
        operator_weights,
        mean: wanted.mean,
        drops: wanted.drops.to_vec(),
    }
}
