//! `churn`: what clients notice of backends that are killed and come back.
//!
//! Two client processes call the same three backends all the time: one through
//! this repository's channel, which follows a balancer whose list stays as it is,
//! and one through tonic's `balance_list`. The backends are killed (SIGKILL) in
//! turn and started again on the same port. A backend writes down each RPC that
//! begins and ends, so that what it had under way when it died is known.

mod report;
mod steady;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::report::{Kill, Report};
pub(crate) use self::steady::{SteadyArgs, run as run_steady};
use crate::balancer::{self, Balancer};
use crate::child::{Child, words};

/// No step of a healthy run takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls before a backend is killed, and after it was picked again.
const SETTLE: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(crate) struct ChurnArgs {
    /// Backends.
    #[arg(long, default_value_t = 3)]
    backends: usize,
    /// How often each of them is killed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// For how long each time, in ms.
    #[arg(long, default_value_t = 1000)]
    down: u64,
    /// RPCs that each client has under way.
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// How long an RPC takes, in µs.
    #[arg(long, default_value_t = 10_000)]
    takes_us: u64,
    /// Kill each once.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

/// A backend that is alive, and the task that reads what it says.
struct Backend {
    kill: oneshot::Sender<()>,
    reader: JoinHandle<Result<BTreeMap<String, i64>>>,
}

/// Kills and restarts, and reports.
pub(crate) fn run(args: &ChurnArgs) -> Result<()> {
    ensure!(
        args.backends > 1,
        "with fewer than two backends there is nobody left to call"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut report = Report::default();
    runtime.block_on(churn(args, &mut report))?;
    report.print(args.json)
}

async fn churn(args: &ChurnArgs, report: &mut Report) -> Result<()> {
    let mut backends = vec![];
    for _ in 0..args.backends {
        let (addr, backend) = start(([127, 0, 0, 1], 0).into(), args).await?;
        backends.push((addr, Some(backend)));
    }
    let addrs: Vec<SocketAddr> = backends.iter().map(|(addr, _)| *addr).collect();
    let balancer = Balancer::start(&balancer::service("", &addrs)).await?;
    let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    let (addrs, balancer_addr) = (addrs.join(" "), balancer.addr.to_string());
    let mut clients = vec![];
    for (name, kind, addrs) in [
        ("ours", "ours", &balancer_addr),
        ("balance_list", "balance-list", &addrs),
    ] {
        let concurrency = args.concurrency;
        let client = format!("steady --kind {kind} --name {name} --concurrency {concurrency}");
        let mut client = Child::start(&words(&[client, addrs.clone()]))?;
        client.hear("ready", PATIENCE).await?;
        clients.push((name, client));
    }
    let rounds = if args.quick { 1 } else { args.rounds };
    for round in 0..rounds {
        for (addr, backend) in &mut backends {
            sleep(SETTLE).await;
            for (_, client) in &mut clients {
                client.tell(&format!("watch {}", addr.port())).await?;
                client.hear("watching", PATIENCE).await?;
            }
            sleep(SETTLE).await;
            let victim = backend.take().context("a backend is not there")?;
            // Its task ends only with the process.
            let _ = victim.kill.send(());
            let under_way = victim.reader.await??;
            sleep(Duration::from_millis(args.down)).await;
            *backend = Some(start(*addr, args).await?.1);
            for (_, client) in &mut clients {
                client.tell("restarted").await?;
            }
            for (name, client) in &mut clients {
                let picked = client.hear("picked", PATIENCE).await?;
                client.tell("report").await?;
                let report_of = client.hear("report", PATIENCE).await?;
                let (&[picked], &[rpcs, at_once, later]) = (&picked[..], &report_of[..]) else {
                    anyhow::bail!("a client said {picked:?} and {report_of:?}");
                };
                let kill = Kill {
                    under_way: *under_way.get(*name).unwrap_or(&0),
                    rpcs,
                    at_once,
                    later,
                    picked_ms: picked as f64 / 1e6,
                };
                eprintln!("round {}, {addr}, {name}: {kill}", round + 1);
                report.add(name, kill);
            }
        }
    }
    Ok(())
}

/// Starts a backend and reads what it says.
async fn start(addr: SocketAddr, args: &ChurnArgs) -> Result<(SocketAddr, Backend)> {
    let takes = args.takes_us;
    let echo = format!("echo --addr {addr} --takes-us {takes} --journal");
    let mut child = Child::start(&words(&[echo]))?;
    let addr = child.hear_text("listening", PATIENCE).await?.parse()?;
    let (kill, killed) = oneshot::channel();
    let reader = tokio::spawn(read(child, killed));
    Ok((addr, Backend { kill, reader }))
}

/// Counts the RPCs under way, by caller, until the process was killed.
async fn read(mut child: Child, mut kill: oneshot::Receiver<()>) -> Result<BTreeMap<String, i64>> {
    let mut under_way = BTreeMap::new();
    let mut killed = false;
    loop {
        let line = tokio::select! {
            line = child.next_line() => line?,
            _ = &mut kill, if !killed => {
                killed = true;
                child.start_kill()?;
                continue;
            }
        };
        // What it said last is read although it is dead.
        let Some(line) = line else {
            child.kill().await?;
            return Ok(under_way);
        };
        let (count, caller) = match line.split_at_checked(1) {
            Some(("+", caller)) => (1, caller),
            Some(("-", caller)) => (-1, caller),
            _ => continue,
        };
        *under_way.entry(caller.to_owned()).or_default() += count;
    }
}
