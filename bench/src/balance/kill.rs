//! How soon a killed backend is out of every client's list.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::PATIENCE;
use super::policy::BACKENDS;
use crate::balancer::{Balancer, service};
use crate::child::{Child, words};
use crate::clock;

/// Time at the start until the balancer follows all backends: reports by ORCA are
/// asked for at a random moment of their first interval.
const BEGIN: Duration = Duration::from_secs(8);

/// Calm before a kill, and up to as much again, so that kills come at any moment of
/// what the balancer does every second.
const CALM: Duration = Duration::from_millis(800);

/// How the balancer can notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Via {
    /// It follows reports by ORCA.
    Orca,
    /// It follows health.
    Health,
    /// Backends register.
    Registration,
}

impl Via {
    pub(super) const ALL: [Self; 3] = [Self::Orca, Self::Health, Self::Registration];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Orca => "orca",
            Self::Health => "health",
            Self::Registration => "registration",
        }
    }

    fn keys(self) -> &'static str {
        match self {
            Self::Orca => "load = { kind = \"orca\" }",
            Self::Health => "health = { kind = \"grpc\" }",
            Self::Registration => "register = { cidrs = [\"127.0.0.0/8\"] }",
        }
    }
}

/// [`kill`] in each of these ways at once, each with backends of its own.
pub(super) async fn side_by_side(
    ways: &[Via],
    clients: usize,
    kills: usize,
) -> Result<Vec<(Via, Vec<f64>)>> {
    let mut all = vec![];
    if kills == 0 {
        return Ok(all);
    }
    let mut tasks = JoinSet::new();
    for via in ways.iter().copied() {
        tasks.spawn(async move { anyhow::Ok((via, kill(via, clients, kills).await?)) });
    }
    while let Some(killed) = tasks.join_next().await {
        let (via, took) = killed??;
        eprintln!("killed {kills} times, noticed by {}", via.as_str());
        all.push((via, took));
    }
    all.sort_by_key(|(via, _)| *via);
    Ok(all)
}

/// Kills backends in turn, and starts them again. Gives the milliseconds from each
/// kill to the moment when the last client had a list without the backend.
async fn kill(via: Via, clients: usize, kills: usize) -> Result<Vec<f64>> {
    let mut backends: Vec<(SocketAddr, Child)> = vec![];
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    if via != Via::Registration {
        for _ in 0..BACKENDS {
            backends.push(start(anywhere, None).await?);
        }
    }
    let addrs: Vec<SocketAddr> = backends.iter().map(|(addr, _)| *addr).collect();
    let balancer = Balancer::start(&service(via.keys(), &addrs)).await?;
    let register = (via == Via::Registration).then_some(balancer.addr);
    while backends.len() < BACKENDS {
        backends.push(start(anywhere, register).await?);
    }
    let watchers = format!("watchers --clients {clients} --balancer {}", balancer.addr);
    let mut watchers = Child::start(&words(&[watchers]))?;
    let mut took = vec![];
    sleep(BEGIN).await;
    for turn in 0..=kills {
        // Nobody is killed before everybody is listed.
        for (addr, _) in &backends {
            watchers.tell(&format!("listed {}", addr.port())).await?;
            let listed = watchers.hear("listed", PATIENCE).await;
            listed.with_context(|| format!("{addr} is not listed, by {}", via.as_str()))?;
        }
        if turn == kills {
            break;
        }
        sleep(CALM.mul_f64(1.0 + fastrand::f64())).await;
        let (addr, victim) = backends.remove(0);
        let before = clock::now();
        victim.kill().await?;
        watchers.tell(&format!("gone {}", addr.port())).await?;
        let gone = watchers.hear("gone", PATIENCE).await;
        let gone = gone.with_context(|| {
            format!(
                "{addr} was killed and is still listed, by {}; {} kills before took {took:.0?} ms",
                via.as_str(),
                took.len()
            )
        })?;
        let gone = gone.first().context("the clients said no time")?;
        took.push(gone.saturating_sub(before) as f64 / 1e6);
        backends.push(start(addr, register).await?);
    }
    Ok(took)
}

/// Starts a backend, which nobody calls.
async fn start(addr: SocketAddr, register: Option<SocketAddr>) -> Result<(SocketAddr, Child)> {
    let mut backend = format!(
        "pool --addr {addr} --permits 1 --takes-us 1000 --patience-ms 1000 --window-ms 1000"
    );
    if let Some(balancer) = register {
        backend.push_str(&format!(" --register {balancer}"));
    }
    let mut backend = Child::start(&words(&[backend]))?;
    let addr = backend.hear_text("listening", PATIENCE).await?.parse()?;
    Ok((addr, backend))
}
