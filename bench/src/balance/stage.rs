//! One policy's balancer, backends and clients, each a process.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use super::latency::Latencies;
use super::level::Level;
use super::policy::{BACKENDS, LOSERS, Policy, SLOWER, capacities};
use super::pool::Used;
use super::{PATIENCE, Phase, Workload};
use crate::balancer::Balancer;
use crate::child::{Child, words};
use crate::process;

/// Client processes, and channels of each. The channels call at rates of 1, 1/2,
/// 1/3 and so on, of all: clients are not alike.
const PROCESSES: usize = 3;
const CHANNELS: usize = 4;

/// Where calls go that nobody balances: backends that nothing else happens to.
const STRAYED: [usize; 2] = [2, 3];

/// Everything that runs under one policy.
pub(super) struct Stage {
    pub(super) policy: Policy,
    pub(super) level: Level,
    workload: Workload,
    addrs: Vec<SocketAddr>,
    balancer: Balancer,
    backends: Vec<Child>,
    clients: Vec<Child>,
    before: Option<(Instant, Vec<Used>)>,
}

impl Stage {
    pub(super) async fn set(policy: Policy, workload: Workload) -> Result<Self> {
        let (mut backends, mut addrs) = (vec![], vec![]);
        for index in 0..BACKENDS {
            let slower = if index + 1 == BACKENDS { SLOWER } else { 1 };
            let mut backend = Child::start(&words(&[format!(
                "pool --addr 127.0.0.1:0 --permits {} --takes-us {} --patience-ms {} --window-ms {}",
                workload.permits,
                (workload.takes * slower).as_micros(),
                workload.patience.as_millis(),
                workload.interval.as_millis(),
            )]))?;
            addrs.push(backend.hear_text("listening", PATIENCE).await?.parse()?);
            backends.push(backend);
        }
        let service = policy.service(&addrs, workload.interval, false);
        let balancer = Balancer::start(&service).await?;
        let mut clients = vec![];
        let balancer_addr = balancer.addr;
        for rates in workload.rates() {
            let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.3}")).collect();
            let rates = rates.join(" ");
            let client = format!("arrivals --balancer {balancer_addr} {rates}");
            clients.push(Child::start(&words(&[client]))?);
        }
        if workload.stray > 0.0 {
            let rate = workload.stray * workload.calls_per_second();
            let [first, second] = STRAYED.map(|index: usize| addrs[index]);
            let client = format!("arrivals --direct {first} --direct {second} {rate:.3}");
            clients.push(Child::start(&words(&[client]))?);
        }
        for client in &mut clients {
            client.hear("ready", PATIENCE).await?;
        }
        Ok(Self {
            policy,
            level: Level::default(),
            workload,
            addrs,
            balancer,
            backends,
            clients,
            before: None,
        })
    }

    /// Calls that begin from now on belong to this phase.
    pub(super) async fn enter(&mut self, phase: Phase) -> Result<()> {
        for client in &mut self.clients {
            client.tell(&format!("phase {}", phase as usize)).await?;
            client.hear("phase", PATIENCE).await?;
        }
        Ok(())
    }

    /// Some lose half of their permits, and whoever knows everything knows it.
    pub(super) async fn change(&mut self) -> Result<()> {
        let permits = self.workload.permits / 2;
        for backend in &mut self.backends[..LOSERS] {
            backend.tell(&format!("permits {permits}")).await?;
            backend.hear("permits", PATIENCE).await?;
        }
        if self.policy == Policy::Oracle {
            let service = self
                .policy
                .service(&self.addrs, self.workload.interval, true);
            self.balancer.edit(&service)?;
        }
        Ok(())
    }

    /// Looks at what share of its permits each backend used since the last look;
    /// nothing at the first one.
    pub(super) async fn look(&mut self, phase: Phase) -> Result<Vec<f64>> {
        let mut now = Vec::with_capacity(BACKENDS);
        for backend in &mut self.backends {
            backend.tell("used").await?;
            let used = backend.hear("used", PATIENCE).await?;
            let &[busy, all] = &used[..] else {
                anyhow::bail!("a backend said {used:?}");
            };
            now.push(Used { busy, all });
        }
        let at = Instant::now();
        let Some((then, before)) = self.before.replace((at, now.clone())) else {
            return Ok(vec![]);
        };
        let used = now.iter().zip(before).map(|(now, then)| now.since(then));
        let used: Vec<f64> = used.collect();
        let seconds = (at - then).as_secs_f64();
        self.level.look(phase as usize, &used, seconds);
        Ok(used)
    }

    /// What came of the calls of a phase.
    pub(super) async fn calls(&mut self, phase: Phase) -> Result<Latencies> {
        let mut all = Latencies::default();
        for client in &mut self.clients {
            client.tell(&format!("report {}", phase as usize)).await?;
            let numbers = client.hear("report", PATIENCE).await?;
            all.add_numbers(&numbers)
                .with_context(|| format!("a client said {numbers:?}"))?;
        }
        Ok(all)
    }

    /// CPU time that its processes have used.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let children = self.backends.iter().chain(&self.clients);
        let pids = children.map(Child::pid).chain([self.balancer.pid()]);
        pids.map(process::cpu).sum()
    }
}

impl Workload {
    /// Calls a second of all clients.
    pub(super) fn calls_per_second(&self) -> f64 {
        let each = self.permits as f64 / self.takes.as_secs_f64();
        self.load * each * capacities(true)
    }

    /// Calls a second of each channel of each process.
    fn rates(&self) -> Vec<Vec<f64>> {
        let shares: Vec<f64> = (1..=PROCESSES * CHANNELS).map(|n| 1.0 / n as f64).collect();
        let each = (1.0 - self.stray) * self.calls_per_second() / shares.iter().sum::<f64>();
        let process = |process| {
            let own = shares.iter().skip(process).step_by(PROCESSES);
            own.map(|share| share * each).collect()
        };
        (0..PROCESSES).map(process).collect()
    }
}
