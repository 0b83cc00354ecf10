//! `balance`: uneven backends under each weight policy, as processes; and how soon
//! a killed backend is out of every client's list.
//!
//! Each policy has a balancer, six backends and twelve clients of its own. All
//! policies run side by side: backends do nothing but wait, so that the machine's
//! CPUs decide nothing. What the backends were busy with is their own books' sum,
//! not what they report.
//!
//! ```text
//!  start ─ settle ─► before ─► change ─ settle ─► after ─► end
//! ```

mod arrivals;
mod backend;
mod kill;
mod latency;
mod level;
mod policy;
mod pool;
mod report;
mod stage;
mod watchers;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use tokio::time::{Instant, MissedTickBehavior, interval};

pub(crate) use self::arrivals::{ArrivalsArgs, run as run_arrivals};
pub(crate) use self::backend::{PoolArgs, run as run_pool};
use self::kill::Via;
use self::policy::Policy;
use self::report::{Calls, Cpu, Outcome, Report};
use self::stage::Stage;
pub(crate) use self::watchers::{WatchersArgs, run as run_watchers};
use crate::process;

/// No step of a healthy run takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time to settle, at the start and after the change; of a short run, two fifths of
/// each half.
const SETTLE: Duration = Duration::from_secs(60);

/// Time between two looks at the backends.
const LOOK: Duration = Duration::from_secs(1);

/// Calls that are under way at the end have so long to end.
const END: Duration = Duration::from_secs(3);

/// More of the machine than this, and calls wait for the CPU too.
const BUSY: f64 = 0.6;

#[derive(Debug, Args)]
pub(crate) struct BalanceArgs {
    /// How long the policies run; the change is half-way.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Only these policies.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Policy::ALL)]
    policies: Vec<Policy>,
    /// One policy after the other, for machines that are too small for all at once.
    #[arg(long)]
    in_turn: bool,
    /// Calls that a backend takes at a time.
    #[arg(long, default_value_t = 40)]
    permits: u64,
    /// How long a call takes on average, in ms.
    #[arg(long, default_value_t = 150)]
    takes_ms: u64,
    /// How long a call may wait for a permit, in ms.
    #[arg(long, default_value_t = 1000)]
    patience_ms: u64,
    /// Calls that are offered, as a share of what all backends can do after the
    /// change.
    #[arg(long, default_value_t = 0.7)]
    load: f64,
    /// Time between a backend's reports, in seconds.
    #[arg(long, default_value_t = 5.0)]
    interval: f64,
    /// Share of the calls that do not go by the balancer's lists, but to two of the
    /// backends in turn.
    #[arg(long, default_value_t = 0.0)]
    stray: f64,
    /// Say each second what share of its permits each backend uses.
    #[arg(long)]
    trace: bool,
    /// How often a backend is killed, for each way to notice it.
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// Ways to notice it.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Via::ALL)]
    via: Vec<Via>,
    /// Clients whose lists are watched meanwhile.
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

/// The calls, and the backends they are for.
#[derive(Debug, Clone, Copy)]
struct Workload {
    permits: u64,
    takes: Duration,
    patience: Duration,
    /// Share of all backends' capacity after the change.
    load: f64,
    /// Share of the calls that nobody balances.
    stray: f64,
    interval: Duration,
}

/// The parts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Before,
    Change,
    After,
    End,
}

/// Runs the policies, kills backends, and reports.
pub(crate) fn run(args: &BalanceArgs) -> Result<()> {
    ensure!(args.seconds >= 8, "a run takes at least 8 seconds");
    ensure!(args.permits >= 2, "of one permit nobody can lose half");
    ensure!(args.takes_ms > 0, "calls that take no time fill no backend");
    ensure!(
        args.load > 0.0 && args.interval >= 1.0,
        "load is above 0, an interval at least 1 s"
    );
    let workload = Workload {
        permits: args.permits,
        takes: Duration::from_millis(args.takes_ms),
        patience: Duration::from_millis(args.patience_ms),
        load: args.load,
        stray: args.stray,
        interval: Duration::from_secs_f64(args.interval),
    };
    ensure!(
        (0.0..1.0).contains(&args.stray),
        "a share of strays is at least 0 and below 1"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut report = Report::default();
    runtime.block_on(async {
        let at_once = if args.in_turn {
            1
        } else {
            args.policies.len().max(1)
        };
        for policies in args.policies.chunks(at_once) {
            play(policies, workload, args, &mut report).await?;
        }
        report.kills = kill::side_by_side(&args.via, args.clients, args.kills).await?;
        anyhow::Ok(())
    })?;
    report.print(&workload, args.json)
}

/// Runs these policies side by side.
async fn play(
    policies: &[Policy],
    workload: Workload,
    args: &BalanceArgs,
    report: &mut Report,
) -> Result<()> {
    let half = Duration::from_secs(args.seconds) / 2;
    let settle = SETTLE.min(half * 2 / 5);
    let mut stages = vec![];
    for policy in policies {
        stages.push(Stage::set(*policy, workload).await?);
    }
    let (began, before) = (Instant::now(), cpu(&stages)?);
    let mut phase = Phase::Start;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while phase != Phase::End {
        looks.tick().await;
        for stage in &mut stages {
            let used = stage.look(phase).await?;
            if args.trace {
                let (since, policy) = (began.elapsed().as_secs(), stage.policy.as_str());
                eprintln!("{since} {policy} {used:.2?}");
            }
        }
        let next = Phase::at(began.elapsed(), half, settle);
        if next != phase {
            eprintln!("{next:?}");
            phase = next;
            for stage in &mut stages {
                stage.enter(phase).await?;
                if phase == Phase::Change {
                    stage.change().await?;
                }
            }
        }
    }
    let after = cpu(&stages)?;
    let own = (after.0 - before.0).as_secs_f64();
    let used = (after.1.0 - before.1.0).as_secs_f64();
    let all = (after.1.1 - before.1.1).as_secs_f64();
    let now = Cpu {
        own: own / all,
        others: ((used - own) / all).max(0.0),
    };
    if now.own + now.others > BUSY {
        eprintln!(
            "the machine was {:.0} % busy: latencies are too long (--in-turn, or a quiet machine)",
            100.0 * (now.own + now.others)
        );
    }
    report.cpu = Cpu {
        own: report.cpu.own.max(now.own),
        others: report.cpu.others.max(now.others),
    };
    tokio::time::sleep(END).await;
    for mut stage in stages {
        report.outcomes.push(Outcome {
            policy: stage.policy,
            calls: Calls {
                before: stage.calls(Phase::Before).await?,
                change: stage.calls(Phase::Change).await?,
                after: stage.calls(Phase::After).await?,
            },
            level: stage.level,
        });
    }
    Ok(())
}

/// CPU time of the stages' processes, and of the machine.
fn cpu(stages: &[Stage]) -> Result<(Duration, (Duration, Duration))> {
    let own = stages.iter().map(Stage::cpu).sum::<Result<_>>()?;
    Ok((own, process::machine_cpu()?))
}

impl Phase {
    /// What it is so long after the start.
    fn at(since_start: Duration, half: Duration, settle: Duration) -> Self {
        match since_start {
            since if since < settle => Self::Start,
            since if since < half => Self::Before,
            since if since < half + settle => Self::Change,
            since if since < 2 * half => Self::After,
            _ => Self::End,
        }
    }
}
