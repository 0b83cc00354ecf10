//! Clients whose calls come at random moments, whether those before have ended or
//! not: one process with a few channels, each with a rate of its own.
//!
//! It says `ready` once all channels are there and calls then, until stdin ends:
//!
//! | line in | line out |
//! |---|---|
//! | `phase N` | `phase`; calls that begin from now on belong to phase N, 0 at first |
//! | `report N` | `report CALLS FAILED MS COUNT MS COUNT …`: of phase N, with the latencies of those that were answered, in whole ms |

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use lookaside_client::Channel;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::latency::Latencies;
use crate::child::say;
use crate::rpc::channels::{Either, Kind, connect, echo};

/// A call that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct ArrivalsArgs {
    /// The balancer.
    #[arg(long)]
    balancer: Option<SocketAddr>,
    /// Without a balancer, the backends to call in turn.
    #[arg(long)]
    direct: Vec<SocketAddr>,
    /// Calls a second, on average, of each channel.
    rates: Vec<f64>,
}

/// What came of the calls, by phase.
#[derive(Debug, Default)]
struct Seen {
    phase: AtomicUsize,
    phases: Mutex<Vec<Latencies>>,
}

/// Calls until stdin ends.
pub(crate) fn run(args: &ArrivalsArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let seen = Arc::new(Seen::default());
    // The set ends with the runtime, and the runtime with this function.
    let mut tasks = JoinSet::new();
    runtime.block_on(async {
        for rate in &args.rates {
            let channel = match args.balancer {
                Some(balancer) => match connect(Kind::Ours, &[balancer], None).await? {
                    Either::Ours(channel) => channel,
                    Either::Tonic(_) => bail!("a channel of another kind"),
                },
                None => directly(&args.direct).await?,
            };
            tasks.spawn(call(channel, *rate, Arc::clone(&seen)));
        }
        Ok(())
    })?;
    say(format_args!("ready"))?;
    for line in std::io::stdin().lock().lines() {
        match *line?.split_ascii_whitespace().collect::<Vec<_>>() {
            ["phase", phase] => {
                seen.phase.store(phase.parse()?, Ordering::SeqCst);
                say(format_args!("phase"))?;
            }
            ["report", phase] => {
                let latencies = seen.of(phase.parse()?, |latencies| latencies.clone());
                say(format_args!("report {latencies}"))?;
            }
            ref other => bail!("the clients do not understand {other:?}"),
        }
    }
    Ok(())
}

/// A channel that asks no balancer.
async fn directly(addrs: &[SocketAddr]) -> Result<Channel> {
    let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    let channel = Channel::builder(format!("static:{}", addrs.join(",")));
    Ok(channel.round_robin().connect().await?)
}

/// A Poisson process of calls.
async fn call(channel: Channel, rate: f64, seen: Arc<Seen>) {
    let stub = GreeterClient::new(channel);
    let mut calls = JoinSet::new();
    let mut due = Instant::now();
    loop {
        due += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / rate);
        sleep_until(due).await;
        while calls.try_join_next().is_some() {}
        let (mut stub, seen) = (stub.clone(), Arc::clone(&seen));
        let phase = seen.phase.load(Ordering::SeqCst);
        calls.spawn(async move {
            let answer = timeout(DEADLINE, echo(&mut stub, "anybody")).await;
            // From when the call was due: a client that is late is no excuse.
            let took = matches!(answer, Ok(Ok(_))).then(|| due.elapsed());
            seen.of(phase, |latencies| latencies.add(took));
        });
    }
}

impl Seen {
    fn of<R>(&self, phase: usize, f: impl FnOnce(&mut Latencies) -> R) -> R {
        let mut phases: MutexGuard<'_, Vec<Latencies>> =
            self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        if phases.len() <= phase {
            phases.resize_with(phase + 1, Latencies::default);
        }
        f(&mut phases[phase])
    }
}
