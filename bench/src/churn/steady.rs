//! A client that calls all the time.
//!
//! | line in | line out |
//! |---|---|
//! | `watch PORT` | `watching`; what failed before is forgotten |
//! | `restarted` | `picked NANOSECONDS`, once an RPC that began since was answered by PORT |
//! | `report` | `report RPCS AT_ONCE LATER`: answered and failed since `watch` |
//!
//! `AT_ONCE` are those that failed and had begun before the first failure came
//! back, so that the client could not know of anything; `LATER` those that began
//! after it.

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use clap::Args;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tokio::task::JoinSet;

use crate::child::say;
use crate::clock;
use crate::rpc::channels::{Callable, Either, Kind, connect, echo};

#[derive(Debug, Args)]
pub(crate) struct SteadyArgs {
    /// Which channel.
    #[arg(long, value_enum)]
    kind: Kind,
    /// What it calls itself.
    #[arg(long)]
    name: String,
    /// RPCs at a time.
    #[arg(long)]
    concurrency: usize,
    /// The balancer of ours; the backends of the others.
    addrs: Vec<SocketAddr>,
}

/// What is being watched; times as [`clock::now`].
#[derive(Debug, Default)]
struct Watch {
    port: String,
    answered: u64,
    /// When failed RPCs began.
    failed: Vec<u64>,
    first_failure: Option<u64>,
    /// When the backend came back, until it is picked.
    restarted: Option<u64>,
}

/// Calls, and does what stdin says until it ends.
pub(crate) fn run(args: &SteadyArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let channel = runtime.block_on(connect(args.kind, &args.addrs, None))?;
    let watch = Arc::new(Mutex::new(Watch::default()));
    // The set ends with the runtime, and the runtime with this function.
    let mut tasks = JoinSet::new();
    for _ in 0..args.concurrency {
        let (name, watch) = (args.name.clone(), Arc::clone(&watch));
        match &channel {
            Either::Ours(channel) => {
                tasks.spawn_on(call(channel.clone(), name, watch), runtime.handle());
            }
            Either::Tonic(channel) => {
                tasks.spawn_on(call(channel.clone(), name, watch), runtime.handle());
            }
        }
    }
    say(format_args!("ready"))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut watch = lock(&watch);
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("watch", port) => {
                *watch = Watch {
                    port: port.to_owned(),
                    ..Watch::default()
                };
                say(format_args!("watching"))?;
            }
            ("restarted", _) => watch.restarted = Some(clock::now()),
            ("report", _) => {
                let knew = watch.first_failure.unwrap_or(u64::MAX);
                let later = watch.failed.iter().filter(|began| **began > knew).count();
                let at_once = watch.failed.len() - later;
                let answered = watch.answered;
                say(format_args!("report {answered} {at_once} {later}"))?;
            }
            _ => bail!("the client does not understand `{line}`"),
        }
    }
    Ok(())
}

async fn call(channel: impl Callable, name: String, watch: Arc<Mutex<Watch>>) {
    let mut stub = GreeterClient::new(channel);
    loop {
        let began = clock::now();
        let answer = echo(&mut stub, &name).await;
        let failed = answer.is_err();
        lock(&watch).see(began, answer);
        if failed {
            // Some fail at once as long as the backend is away; one that tries
            // again in a loop would do nothing else.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

impl Watch {
    fn see(&mut self, began: u64, answer: Result<String, tonic::Status>) {
        let now = clock::now();
        match answer {
            Ok(port) => {
                self.answered += 1;
                if let Some(restarted) = self.restarted
                    && port == self.port
                    && began >= restarted
                {
                    self.restarted = None;
                    // Nobody may listen at the end.
                    let _ = say(format_args!("picked {}", now - restarted));
                }
            }
            Err(_) => {
                self.first_failure.get_or_insert(now);
                self.failed.push(began);
            }
        }
    }
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}
