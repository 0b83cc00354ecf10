//! One run: a scenario under one policy, step by step.

use std::collections::BTreeMap;

use crate::balancer::Balancer;
use crate::clients::Clients;
use crate::exact::sin;
use crate::hosts::{Host, arrival};
use crate::measure::{Measure, PolicyOutcome};
use crate::random::Random;
use crate::scenario::{Event, EventKind, PolicyName, Scenario};
use lookaside_core::model::BackendAddr;
use lookaside_core::weights::{Report, TICK};

/// Half a second is short against everything that is measured.
const STEP: f64 = 0.5;

/// A day's rise and fall of load, in seconds.
const DAY: f64 = 1800.0;

/// A balancer that restarts is away for so many seconds, and its clients are
/// back after so many more.
const BALANCER_DOWN: f64 = 2.0;
const RECONNECTED: f64 = 3.0;

/// A backend that leaves is drained so many seconds before it ends, which is
/// longer than a list takes.
const DRAINED: f64 = 15.0;

/// One that restarts is away for so long, and the next begins so much later.
const BACKEND_DOWN: f64 = 5.0;
const NEXT_RESTART: f64 = 6.0;

/// A scenario that runs.
struct Run<'a> {
    scenario: &'a Scenario,
    hosts: Vec<Host>,
    clients: Clients,
    balancer: Balancer,
    measure: Measure,
    random: Random,
    /// What happens later, in order.
    plans: BTreeMap<u64, Vec<Then>>,
    /// Reports on their way.
    reports: BTreeMap<u64, Vec<(BackendAddr, Report)>>,
    leaving: Vec<bool>,
    /// What the capacities sum to, which load is a share of.
    capacity: f64,
    load: f64,
    /// Until when there is no balancer.
    down: Option<f64>,
}

/// Something that follows from an event.
#[derive(Debug, Clone, Copy)]
enum Then {
    Leave(usize),
    Stop(usize),
    Start(usize),
    Gone(usize),
}

/// Runs a scenario under one policy.
pub(super) fn run(scenario: &Scenario, policy: PolicyName) -> PolicyOutcome {
    let hosts = (0..scenario.backends).map(|index| Host::new(index, scenario));
    let hosts: Vec<Host> = hosts.collect();
    let mut run = Run {
        clients: Clients::new(scenario),
        balancer: Balancer::new(policy, scenario, &hosts),
        measure: Measure::new(scenario),
        random: Random::new(scenario.seed, "run"),
        plans: BTreeMap::new(),
        reports: BTreeMap::new(),
        leaving: vec![false; hosts.len()],
        capacity: hosts.iter().map(|host| host.capacity).sum(),
        load: 1.0,
        down: None,
        scenario,
        hosts,
    };
    run.balancer.run(0.0, &run.hosts);
    run.clients.begin(|ordinal| run.balancer.list(ordinal));
    let steps = (scenario.duration.as_secs_f64() / STEP) as u64;
    let mut events = scenario.events.iter().peekable();
    let mut pushed = false;
    for step in 0..steps {
        let now = step as f64 * STEP;
        while let Some(event) = events.next_if(|event| event.at.as_secs_f64() <= now) {
            run.happen(event, now);
        }
        run.follow(now);
        run.traffic(now);
        run.collect(now);
        pushed |= run.balance(now);
        if step % 2 == 1 {
            run.measure.sample(now, &run.hosts);
        }
        if (step + 1) % (TICK.as_secs_f64() / STEP) as u64 == 0 {
            run.measure.tick(now, pushed);
            pushed = false;
        }
    }
    run.measure.outcome(policy.as_str())
}

impl Run<'_> {
    /// The backends that an event is about. All are in one random order: those
    /// that fall silent, lie or fail are its first, all others its last. So an
    /// event undoes another of its kind, and one that should be seen is not
    /// hidden by one that hides.
    fn chosen(&self, event: &Event) -> Vec<usize> {
        let count = self.scenario.backends;
        let mut order = Random::new(self.scenario.seed, "order").shuffled(count);
        let first = [EventKind::Silent, EventKind::Liar, EventKind::Sinkhole];
        if !first.contains(&event.kind) {
            order.reverse();
        }
        let wanted = ((event.share * count as f64).round() as usize).max(1);
        order.truncate(wanted);
        order
    }

    fn happen(&mut self, event: &Event, now: f64) {
        let chosen = self.chosen(event);
        match event.kind {
            EventKind::Slow => self.each(&chosen, |host| host.lost = event.by),
            EventKind::Sinkhole => self.each(&chosen, |host| host.sink = Some(event.by)),
            EventKind::Liar => self.each(&chosen, |host| host.lie = event.by),
            EventKind::Silent => self.each(&chosen, |host| host.silent = true),
            EventKind::Load => self.load = event.by,
            EventKind::Add => self.add(event, now),
            EventKind::Remove => {
                for index in chosen {
                    self.at(now, Then::Leave(index));
                    self.at(now + DRAINED, Then::Gone(index));
                }
            }
            EventKind::RestartBackends => {
                for (turn, index) in chosen.into_iter().enumerate() {
                    let turn = now + turn as f64 * NEXT_RESTART;
                    self.at(turn, Then::Leave(index));
                    self.at(turn + DRAINED, Then::Stop(index));
                    self.at(turn + DRAINED + BACKEND_DOWN, Then::Start(index));
                }
                return;
            }
            EventKind::RestartBalancer => self.down = Some(now + BALANCER_DOWN),
        }
        if matches!(event.kind, EventKind::Sinkhole | EventKind::Liar) {
            let chosen = self.chosen(event);
            self.measure.offend(now, &chosen);
        }
    }

    fn each(&mut self, chosen: &[usize], act: impl Fn(&mut Host)) {
        for index in chosen {
            act(&mut self.hosts[*index]);
        }
    }

    fn add(&mut self, event: &Event, now: f64) {
        let count = ((event.share * self.scenario.backends as f64).round() as usize).max(1);
        for _ in 0..count {
            let mut host = Host::new(self.hosts.len(), self.scenario);
            host.join(now, self.scenario.report.interval.as_secs_f64());
            self.hosts.push(host);
            self.leaving.push(false);
        }
        self.contribute();
    }

    fn at(&mut self, when: f64, then: Then) {
        self.plans.entry(millis(when)).or_default().push(then);
    }

    fn follow(&mut self, now: f64) {
        let mut changed = false;
        while let Some(due) = self.plans.first_entry().filter(|e| *e.key() <= millis(now)) {
            for then in due.remove() {
                changed = true;
                match then {
                    Then::Leave(index) => self.leaving[index] = true,
                    Then::Stop(index) => self.hosts[index].up = false,
                    Then::Gone(index) => self.hosts[index].gone = true,
                    Then::Start(index) => {
                        self.hosts[index].start(now);
                        self.leaving[index] = false;
                    }
                }
            }
        }
        if changed {
            self.contribute();
        }
    }

    fn contribute(&mut self) {
        let leaving = &self.leaving;
        self.balancer
            .contribute(&self.hosts, |index| leaving[index]);
    }

    fn traffic(&mut self, now: f64) {
        let day = 1.0 + self.scenario.diurnal * sin(now / DAY * std::f64::consts::TAU);
        let rate = self.scenario.load * self.load * self.capacity * day;
        let is_up: Vec<bool> = self.hosts.iter().map(Host::counts).collect();
        let mut calls = vec![0.0; self.hosts.len()];
        let dropped = self.clients.call(now, STEP, rate, &is_up, &mut calls);
        self.measure.drop_calls(now, dropped);

        // Skew moves calls between backends, but makes none.
        let all: f64 = calls.iter().sum();
        let skewed: f64 = calls.iter().zip(&self.hosts).map(|(c, h)| c * h.skew).sum();
        let scale = if skewed > 0.0 { all / skewed } else { 1.0 };
        for (host, calls) in self.hosts.iter_mut().zip(calls) {
            let exact = calls * host.skew * scale;
            let whole = (exact + self.random.unit()).floor();
            let worked = host.work(whole, now, STEP, self.scenario.request_cost_cv);
            self.measure.count(now, worked.requests, worked.failures);
        }
    }

    /// Takes the reports that are made, and gives the balancer those that come.
    fn collect(&mut self, now: f64) {
        for host in &mut self.hosts {
            if let Some(report) = host.report(now, self.scenario) {
                let at = millis(arrival(now, self.scenario.report.delay));
                self.reports
                    .entry(at)
                    .or_default()
                    .push((host.addr, report));
            }
        }
        while let Some(due) = self
            .reports
            .first_entry()
            .filter(|e| *e.key() <= millis(now))
        {
            for (addr, report) in due.remove() {
                if self.down.is_none() {
                    self.balancer.report(addr, report, now);
                }
            }
        }
    }

    /// Lets the balancer work; whether it sent lists.
    fn balance(&mut self, now: f64) -> bool {
        if let Some(until) = self.down {
            if now < until {
                return false;
            }
            self.down = None;
            self.balancer.restart(now, BALANCER_DOWN);
            self.balancer.run(now, &self.hosts);
            let balancer = &self.balancer;
            let list = |ordinal| balancer.list(ordinal);
            self.clients.reconnect(now, RECONNECTED, list);
            return true;
        }
        let pushed = self.balancer.run(now, &self.hosts);
        if pushed {
            let balancer = &self.balancer;
            self.clients.push(now, |ordinal| balancer.news(ordinal));
        }
        pushed
    }
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
