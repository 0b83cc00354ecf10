//! The balancer: the plan, the pace and the lists that serve, without sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Buf as _;
use lookaside_proto::frame::HEADER_LEN;
use lookaside_proto::lb_v1::{LoadBalanceResponse, load_balance_response::LoadBalanceResponseType};
use prost::Message as _;

use crate::clients::{DROP, Walk};
use crate::hosts::Host;
use crate::random::Random;
use crate::scenario::{PolicyName, Scenario};
use lookaside_core::list::ServerLists;
use lookaside_core::model::{BackendAddr, Weight};
use lookaside_core::plan::{
    Clients, Contribution, GroupPlan, Lane, MemberFields, Pace, Plan, PlanInput, PlanState,
    Publish, ServiceSettings, SourceId, SourceKind, TimedReport, plan,
};
use lookaside_core::weights::{PolicyChoice, Report, WeightSettings};

/// A balancer with one service.
#[derive(Debug)]
pub(super) struct Balancer {
    policy: PolicyName,
    settings: ServiceSettings,
    contributions: BTreeMap<SourceId, Contribution>,
    reports: Vec<TimedReport>,
    state: PlanState,
    pace: Pace,
    published: Option<Plan>,
    candidate: Option<Plan>,
    lists: Vec<Lists>,
    /// Which group each stream is in, but for how many there are: the catalogue seats
    /// clients nearly evenly, too.
    seats: Vec<usize>,
    clients: Clients,
    dirty: bool,
    /// When its process started.
    started: f64,
}

/// The lists that are published to a group, as clients read them: one a variant.
#[derive(Debug)]
struct Lists {
    lists: Option<ServerLists>,
    walks: Vec<Walk>,
    /// Whether the variant is another than it was before the last publish.
    changed: Vec<bool>,
}

impl Lists {
    /// Those of a group, which had these `old` ones before.
    fn new(group: &GroupPlan, old: Option<&Self>, indexes: &BTreeMap<BackendAddr, u32>) -> Self {
        let GroupPlan::Servers(spec) = group else {
            return Self {
                lists: None,
                walks: Vec::new(),
                changed: Vec::new(),
            };
        };
        let lists = ServerLists::new(spec.clone());
        let old = old.and_then(|old| old.lists.as_ref());
        let same = |variant| old.is_some_and(|old| lists.has_same_variant(old, variant as u64));
        let variants = 0..lists.variant_count();
        let changed = variants.clone().map(|variant| !same(variant)).collect();
        let walks = variants.map(|variant| decode(&lists, variant, indexes));
        Self {
            walks: walks.collect(),
            changed,
            lists: Some(lists),
        }
    }
}

impl Balancer {
    pub(super) fn new(policy: PolicyName, scenario: &Scenario, hosts: &[Host]) -> Self {
        let mut weights = WeightSettings {
            policy: match policy {
                PolicyName::RoundRobin | PolicyName::Static => PolicyChoice::STATIC,
                PolicyName::WeightedRoundRobin => PolicyChoice::WEIGHTED_ROUND_ROBIN,
                PolicyName::Feedback => PolicyChoice::FEEDBACK,
            },
            ..WeightSettings::default()
        };
        // Go's backends report every 30 s, whatever they were asked.
        weights.reports.interval = scenario.report.interval.min(Duration::from_secs(5));
        weights.reports.load_window = Some(scenario.report.load_window);
        let settings = ServiceSettings {
            weights,
            overload: scenario.overload,
            subset: (scenario.subset > 0).then_some(scenario.subset),
            ..ServiceSettings::default()
        };
        let mut balancer = Self {
            policy,
            settings,
            contributions: BTreeMap::new(),
            reports: Vec::new(),
            state: PlanState::default(),
            pace: Pace::default(),
            published: None,
            candidate: None,
            lists: Vec::new(),
            seats: Random::new(scenario.seed, "seats").shuffled(scenario.clients),
            clients: Clients::default(),
            dirty: true,
            started: 0.0,
        };
        balancer.contribute(hosts, |_| false);
        balancer
    }

    /// These are the backends now; of those that are leaving, none is called.
    pub(super) fn contribute(&mut self, hosts: &[Host], leaving: impl Fn(usize) -> bool) {
        let members = hosts.iter().enumerate().filter(|(_, host)| host.counts());
        let members = members.map(|(index, host)| {
            let weight = match self.policy {
                PolicyName::Static => Weight::new(host.capacity).ok(),
                _ => None,
            };
            let fields = MemberFields {
                weight,
                drain: Some(leaving(index)),
                incarnation: Some(host.life.to_string().into()),
                ..MemberFields::default()
            };
            (host.addr, fields)
        });
        let contribution = members.collect::<Contribution>();
        self.contributions
            .insert(SourceKind::Registration.into(), contribution);
        self.dirty = true;
    }

    pub(super) fn report(&mut self, backend: BackendAddr, report: Report, now: f64) {
        self.reports.push(TimedReport {
            backend,
            at: self.age(now),
            report,
        });
        self.dirty |= report.failing_share() >= 0.85;
    }

    /// Its process ends, `down` seconds before `now`, and another goes on from
    /// what it saved.
    pub(super) fn restart(&mut self, now: f64, down: f64) {
        let saved = self.state.save(self.age(now - down));
        self.started = now;
        let ago = Duration::from_secs_f64(down);
        self.state = PlanState::load(saved, &self.settings, Duration::ZERO, ago);
        self.pace = Pace::default();
        self.published = None;
        self.candidate = None;
        self.lists.clear();
        self.clients = Clients::default();
        self.reports.clear();
        self.dirty = true;
    }

    /// Does what is to do at `now`; whether there are new lists.
    pub(super) fn run(&mut self, now: f64, hosts: &[Host]) -> bool {
        let age = self.age(now);
        let due = self.state.next(&self.settings);
        if self.dirty || due.is_some_and(|due| due <= age) {
            self.dirty = false;
            self.consider(age);
        }
        match self.pace.decide(age) {
            Some(Publish::Now) => {
                self.pace.published(age);
                self.publish(age, hosts)
            }
            _ => false,
        }
    }

    fn consider(&mut self, age: Duration) {
        let input = PlanInput {
            contributions: &self.contributions,
            settings: &self.settings,
            health: &BTreeMap::new(),
            reports: &self.reports,
            clients: &self.clients,
        };
        let candidate = plan(input, &mut self.state, age);
        self.reports.clear();
        let lane = match &self.published {
            Some(published) => published.lane_to(&candidate),
            None => Some(Lane::Change),
        };
        match lane {
            Some(lane) => {
                self.pace.changed(lane, age);
                self.candidate = Some(candidate);
            }
            None => {
                self.pace.settled();
                self.candidate = None;
            }
        }
    }

    fn publish(&mut self, age: Duration, hosts: &[Host]) -> bool {
        let Some(plan) = self.candidate.take() else {
            return false;
        };
        self.state.published(&plan, age);
        let old = self.published.replace(plan);
        let Some(plan) = &self.published else {
            return false;
        };
        if old.is_some_and(|old| old.groups == plan.groups) {
            return false;
        }
        let indexes = hosts.iter().enumerate();
        let indexes = indexes.map(|(index, host)| (host.addr, index as u32));
        let indexes: BTreeMap<BackendAddr, u32> = indexes.collect();
        let count = plan.groups.len();
        // Where there are other groups than before, clients are in others.
        let before = (count == self.lists.len()).then_some(&self.lists);
        let lists = plan.groups.iter().enumerate().map(|(index, group)| {
            let old = before.and_then(|before| before.get(index));
            Lists::new(group, old, &indexes)
        });
        self.lists = lists.collect();
        let mut streams = vec![0; count];
        for seat in &self.seats {
            streams[seat % count] += 1;
        }
        self.clients = Clients {
            layout: plan.layout.clone(),
            streams,
        };
        self.dirty |= self.state.clients_moved(&self.clients);
        self.lists.iter().any(|lists| lists.changed.contains(&true))
    }

    /// The list for the stream with this ordinal, if the last publish changed it:
    /// others are sent nothing.
    pub(super) fn news(&self, ordinal: u64) -> Option<Walk> {
        let (lists, variant) = self.place(ordinal)?;
        let changed = lists.changed.get(variant).copied().unwrap_or(true);
        changed.then(|| self.list(ordinal))
    }

    /// The lists of a stream's group, and its variant.
    fn place(&self, ordinal: u64) -> Option<(&Lists, usize)> {
        let seat = self.seats.get(ordinal as usize).copied();
        let group = seat.unwrap_or_default() % self.lists.len().max(1);
        let lists = self.lists.get(group)?;
        let variants = lists.walks.len().max(1) as u64;
        Some((lists, (ordinal % variants) as usize))
    }

    /// The list for the stream with this ordinal.
    pub(super) fn list(&self, ordinal: u64) -> Walk {
        let walk = self
            .place(ordinal)
            .and_then(|(lists, variant)| lists.walks.get(variant));
        walk.map_or_else(|| Walk::from([]), Walk::clone)
    }

    fn age(&self, now: f64) -> Duration {
        Duration::from_secs_f64((now - self.started).max(0.0))
    }
}

/// A list as a client reads it from the wire.
fn decode(lists: &ServerLists, variant: usize, indexes: &BTreeMap<BackendAddr, u32>) -> Walk {
    let mut frame = lists.variant(variant as u64).frame(0);
    frame.advance(HEADER_LEN);
    let Ok(response) = LoadBalanceResponse::decode(frame) else {
        return Walk::from([]);
    };
    let Some(LoadBalanceResponseType::ServerList(list)) = response.load_balance_response_type
    else {
        return Walk::from([]);
    };
    let backends = list.servers.iter().filter_map(|server| {
        if server.drop {
            return Some(DROP);
        }
        let addr = lookaside_proto::addr::socket_addr(server).ok()?;
        indexes.get(&BackendAddr::new(addr).ok()?).copied()
    });
    backends.collect()
}
