//! `rpc`: what a unary RPC costs over this repository's channel, beside tonic's,
//! and beside a proxy in between.
//!
//! Backends, balancer, proxies and each client are processes of their own. All
//! clients of a scene are there all the time and take turns: each calls as fast as
//! it can for a tenth of a second, then the next one does; and then the same in
//! the opposite order, so that a machine that grows busy is busy for all. Ten
//! turns of each are a round. What is compared is always a client and the plain
//! channel of the same round.

mod caller;
pub(crate) mod channels;
mod echo;
mod proxy;
mod report;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

pub(crate) use self::caller::{CallerArgs, Load, run as run_caller};
pub(crate) use self::echo::{EchoArgs, run as run_echo};
use self::proxy::Proxy;
use self::report::{Report, Sample};
use crate::balancer::{self, Balancer};
use crate::child::{Child, words};
use crate::process;

/// No step of a healthy run takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// RPCs of large messages at a time: as many as a server usually allows on a
/// connection.
const LARGE_AT_ONCE: usize = 100;

/// Turns of each client in a round.
const TURNS: u64 = 10;

/// RPCs before the ones that are measured in a turn, in ms: for caches, and the
/// first time for the connections of proxies.
const WARM_UP: u64 = 10;

#[derive(Debug, Args)]
pub(crate) struct RpcArgs {
    /// Rounds: ratios to compare.
    #[arg(long, default_value_t = 11)]
    pairs: usize,
    /// How long each client calls in a round, in ms.
    #[arg(long, default_value_t = 1000)]
    millis: u64,
    /// RPCs at a time; of large messages there are always 100.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    concurrency: Vec<usize>,
    /// Only these: so many backends, `-1` of them dead; `-large`: messages of 1 MB,
    /// `-unread`: three responses of the same connection are not read meanwhile.
    #[arg(long, value_delimiter = ',', default_values_t = Scene::ALL)]
    scenes: Vec<Scene>,
    /// Leave the proxies out.
    #[arg(long)]
    no_proxies: bool,
    /// Three short rounds: whether it runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

/// How many backends there are, how many of them are dead, and what is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scene {
    backends: usize,
    dead: usize,
    load: Load,
}

impl Scene {
    const ALL: [Self; 5] = [
        Self::of(1, 0, Load::Small),
        Self::of(3, 0, Load::Small),
        Self::of(3, 1, Load::Small),
        Self::of(1, 0, Load::Large),
        Self::of(1, 0, Load::Unread),
    ];

    const fn of(backends: usize, dead: usize, load: Load) -> Self {
        Self {
            backends,
            dead,
            load,
        }
    }
}

impl std::str::FromStr for Scene {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|scene| scene.to_string() == text);
        let known = known.copied();
        known.ok_or_else(|| format!("not one of {}", Self::ALL.map(|s| s.to_string()).join(", ")))
    }
}

impl std::fmt::Display for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.backends)?;
        if self.dead > 0 {
            write!(f, "-{}", self.dead)?;
        }
        match self.load {
            Load::Small => Ok(()),
            load => write!(f, "-{}", load.as_str()),
        }
    }
}

/// Who calls, through what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Ours,
    Channel,
    BalanceList,
    Proxied(proxy::Kind),
}

impl Who {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Channel => "channel",
            Self::BalanceList => "balance_list",
            Self::Proxied(kind) => kind.as_str(),
        }
    }

    /// The channel that it calls through, as the command line has it.
    fn channel(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Channel | Self::Proxied(_) => "channel",
            Self::BalanceList => "balance-list",
        }
    }
}

/// Everything that lives during a scene.
struct Stage {
    clients: Vec<(Who, Child)>,
    balancer: Balancer,
    proxies: Vec<Proxy>,
    backends: Vec<Child>,
}

/// Runs the scenes and reports.
pub(crate) fn run(args: &RpcArgs) -> Result<()> {
    let (pairs, millis) = match args.quick {
        true => (3, 200),
        false => (args.pairs, args.millis),
    };
    ensure!(pairs > 0 && millis > 0, "nothing to measure");
    let mut proxies = vec![];
    if !args.no_proxies {
        for kind in [proxy::Kind::Haproxy, proxy::Kind::Nginx] {
            match kind.version() {
                Some(version) => {
                    eprintln!("{version}");
                    proxies.push(kind);
                }
                None => eprintln!(
                    "{0} is not here: its rows are left out (Debian's package is `{0}`)",
                    kind.as_str()
                ),
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut report = Report::default();
    runtime.block_on(async {
        for scene in &args.scenes {
            let (proxies, concurrency) = match scene.load {
                Load::Small => (&proxies[..], &args.concurrency[..]),
                Load::Large => (&[][..], &[LARGE_AT_ONCE][..]),
                Load::Unread => (&[][..], &args.concurrency[..]),
            };
            let mut stage = Stage::set(*scene, proxies).await?;
            for concurrency in concurrency {
                for _ in 0..pairs {
                    let samples = stage.round(millis, *concurrency).await?;
                    report.add(*scene, *concurrency, samples);
                }
                report.progress(*scene, *concurrency);
            }
        }
        Ok::<_, anyhow::Error>(())
    })?;
    report.print(args.json)
}

impl Stage {
    async fn set(scene: Scene, proxies: &[proxy::Kind]) -> Result<Self> {
        let mut backends = vec![];
        let mut addrs: Vec<SocketAddr> = vec![];
        for _ in 0..scene.backends {
            let mut backend = Child::start(&words(&["echo --addr 127.0.0.1:0".into()]))?;
            addrs.push(backend.hear_text("listening", PATIENCE).await?.parse()?);
            backends.push(backend);
        }
        for _ in 0..scene.dead {
            if let Some(backend) = backends.pop() {
                backend.kill().await?;
            }
        }
        let all: Vec<String> = addrs.iter().map(ToString::to_string).collect();
        let all = all.join(" ");
        let balancer = Balancer::start(&balancer::service("", &addrs)).await?;
        let balancer_addr = balancer.addr.to_string();

        let mut stage = Self {
            clients: vec![],
            balancer,
            proxies: vec![],
            backends,
        };
        // The plain channel beside both that are compared with it.
        if scene.backends > 1 {
            stage.client(Who::BalanceList, scene.load, &all).await?;
        }
        let first = addrs.first().context("a scene without backends")?;
        let first = first.to_string();
        stage.client(Who::Channel, scene.load, &first).await?;
        stage.client(Who::Ours, scene.load, &balancer_addr).await?;
        for kind in proxies {
            let proxy = kind.start(&addrs).await?;
            let addr = proxy.addr.to_string();
            stage.proxies.push(proxy);
            stage.client(Who::Proxied(*kind), scene.load, &addr).await?;
        }
        Ok(stage)
    }

    async fn client(&mut self, who: Who, load: Load, addrs: &str) -> Result<()> {
        let (kind, load) = (who.channel(), load.as_str());
        let args = format!("caller --kind {kind} --load {load} {addrs}");
        let mut client = Child::start(&words(&[args]))?;
        client.hear("ready", PATIENCE).await?;
        self.clients.push((who, client));
        Ok(())
    }

    /// Every client in its turns.
    async fn round(&mut self, millis: u64, concurrency: usize) -> Result<Vec<(Who, Sample)>> {
        let mut turns: Vec<Vec<Sample>> = vec![vec![]; self.clients.len()];
        for turn in 0..TURNS {
            let mut order: Vec<usize> = (0..self.clients.len()).collect();
            if turn % 2 == 1 {
                order.reverse();
            }
            for index in order {
                self.call(index, WARM_UP, concurrency).await?;
                let before = (self.cpu()?, process::machine_cpu()?);
                let millis = millis.div_ceil(TURNS);
                let mut sample = self.call(index, millis, concurrency).await?;
                let after = (self.cpu()?, process::machine_cpu()?);
                let path = after.0 - before.0;
                let (used, all) = (after.1.0 - before.1.0, after.1.1 - before.1.1);
                sample.path_cpu = path.as_nanos() as f64;
                sample.foreign = used.as_nanos() as f64 - sample.path_cpu;
                sample.machine = all.as_nanos() as f64;
                turns[index].push(sample);
            }
        }
        let whose = self.clients.iter().map(|(who, _)| *who);
        let samples = turns.iter().map(|turns| Sample::of(turns));
        Ok(whose.zip(samples).collect())
    }

    async fn call(&mut self, index: usize, millis: u64, concurrency: usize) -> Result<Sample> {
        let (_, client) = &mut self.clients[index];
        client.tell(&format!("run {millis} {concurrency}")).await?;
        let ran = client.hear("ran", PATIENCE).await?;
        let &[rpcs, failed, wall, cpu, p50, p99] = &ran[..] else {
            anyhow::bail!("a client said {ran:?}");
        };
        Ok(Sample {
            rpcs,
            failed,
            wall: wall as f64,
            cpu: cpu as f64,
            path_cpu: 0.0,
            p50: p50 as f64,
            p99: p99 as f64,
            foreign: 0.0,
            machine: 0.0,
        })
    }

    /// CPU time that all processes of the scene have used.
    fn cpu(&self) -> Result<Duration> {
        let clients = self.clients.iter().map(|(_, client)| client.pid());
        let backends = self.backends.iter().map(Child::pid);
        let proxies = self.proxies.iter().map(|proxy| proxy.pid);
        let pids = clients.chain(backends).chain(proxies);
        pids.chain([self.balancer.pid()]).map(process::cpu).sum()
    }
}
