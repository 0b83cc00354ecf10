//! The client process: as many RPCs as it can, so many at a time, over one
//! channel and on one thread.
//!
//! It says `ready` once the channel is there. Then, for each line of stdin,
//! `run MILLIS CONCURRENCY`, it says `ran RPCS FAILED WALL CPU P50 P99`, all but
//! the counts in nanoseconds.

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::channels::{Callable, Either, Kind, connect, echo};
use crate::child::say;
use crate::clock;

/// What every request says, and its answer.
const MESSAGE: &str = "a message of thirty-two letters.";

#[derive(Debug, Args)]
pub(crate) struct CallerArgs {
    /// Which channel.
    #[arg(long, value_enum)]
    kind: Kind,
    /// The balancer of ours; the backends, or one of them, of the others.
    addrs: Vec<SocketAddr>,
}

/// What the tasks of a run saw.
#[derive(Debug, Default)]
struct Seen {
    failed: u64,
    nanos: Vec<u64>,
}

/// Does what stdin says until it ends.
pub(crate) fn run(args: &CallerArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let channel = runtime.block_on(connect(args.kind, &args.addrs))?;
    say(format_args!("ready"))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ["run", millis, concurrency] = words[..] else {
            bail!("the client does not understand `{line}`");
        };
        let over = Duration::from_millis(millis.parse()?);
        let concurrency = concurrency.parse()?;
        let (began, cpu) = (Instant::now(), clock::cpu());
        let mut seen = runtime.block_on(async {
            match &channel {
                Either::Ours(channel) => load(channel.clone(), over, concurrency).await,
                Either::Tonic(channel) => load(channel.clone(), over, concurrency).await,
            }
        });
        let (wall, cpu) = (began.elapsed().as_nanos(), clock::cpu() - cpu);
        seen.nanos.sort_unstable();
        say(format_args!(
            "ran {} {} {wall} {cpu} {} {}",
            seen.nanos.len(),
            seen.failed,
            quantile(&seen.nanos, 50),
            quantile(&seen.nanos, 99)
        ))?;
    }
    Ok(())
}

/// Calls for so long, `concurrency` RPCs at a time.
async fn load(channel: impl Callable, over: Duration, concurrency: usize) -> Seen {
    let until = Instant::now() + over;
    let mut tasks = JoinSet::new();
    for _ in 0..concurrency {
        let mut stub = GreeterClient::new(channel.clone());
        tasks.spawn(async move {
            let mut seen = Seen::default();
            let mut now = Instant::now();
            while now < until {
                let answer = echo(&mut stub, MESSAGE).await;
                let began = std::mem::replace(&mut now, Instant::now());
                match answer {
                    Ok(answer) if answer == MESSAGE => {
                        let nanos = (now - began).as_nanos();
                        seen.nanos.push(u64::try_from(nanos).unwrap_or(u64::MAX));
                    }
                    _ => seen.failed += 1,
                }
            }
            seen
        });
    }
    let mut all = Seen::default();
    while let Some(Ok(seen)) = tasks.join_next().await {
        all.failed += seen.failed;
        all.nanos.extend(seen.nanos);
    }
    all
}

/// The value that `percent` of the sorted values do not exceed.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}
