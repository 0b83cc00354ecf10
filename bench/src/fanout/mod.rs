//! `fanout`: what it costs to bring a changed list to N streams, beside what
//! it costs servers made of tonic and of grpc-go.
//!
//! Each measurement has a server process and a clients' process of its own,
//! and lets nothing else of the run live beside them. The servers take turns,
//! round after round, so that a machine that grows busy is busy for all.
//!
//! Clients first get a list of [`backends::AT_FIRST`] entries; then idle memory
//! is measured. The first push brings the whole list: how much memory grows by
//! it is measured. The pushes after it are measured for time and CPU.
//!
//! [`backends::AT_FIRST`]: crate::backends::AT_FIRST

mod report;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::time::{Instant, sleep};

use crate::backends::SERVICE;
use crate::child::{Child, words};
use crate::process;
use crate::serve::{Input, Kind, Size};
use crate::swarm::Profile;
use report::{Report, Sample};

/// Clients on their way to a connection at once. What connecting costs is not
/// measured here, and so nobody's accept queue should overflow.
const CONNECT_AT_ONCE: usize = 400;

/// Until memory is looked at: more than the allocator keeps free pages.
const SETTLE: Duration = Duration::from_millis(2500);

/// Until an empty server is looked at.
const STARTING: Duration = Duration::from_millis(500);

/// Between two pushes; more than the balancer paces them by.
const PUSH_GAP: Duration = Duration::from_millis(300);

/// After a push, for what a server does once the last client has its list.
const AFTERMATH: Duration = Duration::from_millis(100);

/// No step of a healthy run takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct FanoutArgs {
    /// Clients, each with a connection and a stream of its own.
    #[arg(long, default_value_t = 8000)]
    streams: usize,
    /// Entries of the list.
    #[arg(long, default_value_t = 400)]
    entries: usize,
    /// How often each server is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Changes pushed in a round, after the one that brings the whole list.
    #[arg(long, default_value_t = 6)]
    pushes: usize,
    /// Whose HTTP/2 settings the clients have.
    #[arg(long, value_enum, default_value_t = Profile::Go)]
    profile: Profile,
    /// How a change reaches the server.
    #[arg(long, value_enum, default_value_t = Input::Memory)]
    input: Input,
    /// Measure only these.
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

/// A server, its clients, and what they were measured by.
struct Pair<'a> {
    args: &'a FanoutArgs,
    server: Child,
    clients: Child,
    /// kB of the server before the first client, and its open files.
    empty_kb: u64,
    empty_files: usize,
}

/// Runs the rounds and reports.
pub(crate) fn run(args: &FanoutArgs) -> Result<()> {
    ensure!(args.streams > 0 && args.entries > 0, "nothing to measure");
    ensure!(args.rounds > 0 && args.pushes > 0, "nothing to measure");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut report = Report::default();
    runtime.block_on(async {
        for round in 0..args.rounds {
            let mut kinds = Kind::with(args.input);
            kinds.retain(|kind| args.only.is_empty() || args.only.contains(kind));
            ensure!(!kinds.is_empty(), "nothing to measure");
            let turn = round % kinds.len();
            kinds.rotate_left(turn);
            for kind in kinds {
                let what = || format!("round {} of {}", round + 1, kind.as_str());
                let sample = measure(args, kind).await.with_context(what)?;
                eprintln!("{}: {sample}", what());
                report.add(kind, sample);
            }
        }
        Ok::<_, anyhow::Error>(())
    })?;
    report.print(args)
}

/// One round of one server.
async fn measure(args: &FanoutArgs, kind: Kind) -> Result<Sample> {
    let mut pair = Pair::start(args, kind).await?;
    pair.connect(CONNECT_AT_ONCE).await?;
    let mut sample = Sample {
        rss_kb_per_stream: pair.idle_kb_per_stream().await?,
        ..Sample::default()
    };
    // The push that brings the whole list. What it grows memory by, no later
    // one does; nor do they share its growing socket buffers.
    sample.rss_growth_mb = pair.push(&mut Sample::default()).await?;

    let before = pair.machine_and_pair().await?;
    for _ in 0..args.pushes {
        sleep(PUSH_GAP).await;
        pair.push(&mut sample).await?;
    }
    let after = pair.machine_and_pair().await?;
    let (used, all) = (after.0 - before.0, after.1 - before.1);
    let foreign = used.saturating_sub(after.2 - before.2);
    sample.foreign_load = foreign.as_secs_f64() / all.as_secs_f64();
    pair.check_list(sample.list_bytes).await?;
    sample.rss_kb_per_stream_after_pushes = pair.idle_kb_per_stream().await?;
    // What registered keeps files open, by which it is seen that all clients left.
    if kind == Kind::Ours && args.input != Input::Registration {
        for _ in 0..3 {
            pair.reconnect_all().await?;
        }
        sample.rss_kb_per_stream_after_reconnects = Some(pair.idle_kb_per_stream().await?);
    }
    pair.server.kill().await?;
    pair.clients.kill().await?;
    Ok(sample)
}

impl<'a> Pair<'a> {
    async fn start(args: &'a FanoutArgs, kind: Kind) -> Result<Self> {
        let size = Size {
            entries: args.entries,
            streams: args.streams,
        };
        let (server, addr) = kind.start(size, args.input, "127.0.0.1:0").await?;
        let clients = [
            format!("swarm --addr {addr} --service {SERVICE}"),
            format!(
                "--streams {} --profile {}",
                args.streams,
                args.profile.as_str()
            ),
        ];
        let clients = Child::start(&words(&clients))?;
        // A server that listens may still be starting its threads.
        sleep(STARTING).await;
        Ok(Self {
            args,
            empty_kb: process::memory(server.pid())?.anonymous,
            empty_files: process::open_files(server.pid())?,
            server,
            clients,
        })
    }

    async fn connect(&mut self, at_once: usize) -> Result<()> {
        self.clients.tell(&format!("connect {at_once}")).await?;
        self.clients.hear("ready", PATIENCE).await?;
        Ok(())
    }

    async fn idle_kb_per_stream(&self) -> Result<f64> {
        sleep(SETTLE).await;
        let kb = process::memory(self.server.pid())?.anonymous;
        Ok(kb.saturating_sub(self.empty_kb) as f64 / self.args.streams as f64)
    }

    /// One change, to the last client. Gives the MB that memory grew by.
    async fn push(&mut self, sample: &mut Sample) -> Result<f64> {
        let pid = self.server.pid();
        process::forget_peak(pid)?;
        let memory = process::memory(pid)?;
        let cpu = self.ask(Who::Server).await?;
        self.server.tell("push").await?;
        let pushed = self.server.hear("pushed", PATIENCE).await?;
        let list = self.clients.hear("list", PATIENCE).await?;
        sleep(AFTERMATH).await;
        let cpu = self.ask(Who::Server).await? - cpu;
        let peak = process::memory(pid)?.peak;

        let (&[pushed], &[median, p99, last, shortest, longest]) = (&pushed[..], &list[..]) else {
            anyhow::bail!("server said {pushed:?}, clients said {list:?}");
        };
        ensure!(
            shortest == longest,
            "lists of {shortest} to {longest} bytes"
        );
        let ms = |at: u64| at.saturating_sub(pushed) as f64 / 1e6;
        sample.p50_ms.push(ms(median));
        sample.p99_ms.push(ms(p99));
        sample.last_ms.push(ms(last));
        let each = cpu.as_secs_f64() * 1e6 / self.args.streams as f64;
        sample.cpu_us_per_list.push(each);
        sample.list_bytes = longest;
        let growth = peak.saturating_sub(memory.resident);
        Ok(growth as f64 / 1024.0)
    }

    /// Whether the newest list has what it should, seen by one client.
    async fn check_list(&mut self, bytes: u64) -> Result<()> {
        self.clients.tell("sample").await?;
        let seen = self.clients.hear("sample", PATIENCE).await?;
        let registered = match self.args.input {
            Input::Registration => self.args.pushes,
            Input::Memory | Input::File => 0,
        };
        let entries = (self.args.entries + registered) as u64;
        ensure!(
            seen == [bytes, entries, entries],
            "a client has a list of [bytes, entries, servers] = {seen:?}, not [{bytes}, {entries}, {entries}]"
        );
        self.clients.tell("status").await?;
        let status = self.clients.hear("status", PATIENCE).await?;
        let streams = self.args.streams as u64;
        ensure!(
            status == [streams, 0, 0],
            "[with a list, connections lost, streams ended] = {status:?} of {streams}"
        );
        Ok(())
    }

    /// Every client leaves, and all come back at once.
    async fn reconnect_all(&mut self) -> Result<()> {
        self.clients.tell("close").await?;
        self.clients.hear("closed", PATIENCE).await?;
        let since = Instant::now();
        loop {
            let files = process::open_files(self.server.pid())?;
            if files <= self.empty_files {
                break;
            }
            let more = files - self.empty_files;
            ensure!(
                since.elapsed() < PATIENCE,
                "all clients left, but the server has {more} files more than when it was empty"
            );
            sleep(Duration::from_millis(50)).await;
        }
        // Beyond TIME_WAIT's second on loopback, for the ports.
        sleep(Duration::from_millis(1200)).await;
        self.connect(self.args.streams).await
    }

    /// CPU of the machine, used and all of it, and of these two processes.
    async fn machine_and_pair(&mut self) -> Result<(Duration, Duration, Duration)> {
        let pair = self.ask(Who::Server).await? + self.ask(Who::Clients).await?;
        let (used, all) = process::machine_cpu()?;
        Ok((used, all, pair))
    }

    async fn ask(&mut self, who: Who) -> Result<Duration> {
        let child = match who {
            Who::Server => &mut self.server,
            Who::Clients => &mut self.clients,
        };
        child.tell("cpu").await?;
        let cpu = child.hear("cpu", PATIENCE).await?;
        let nanos = cpu.first().context("a CPU time without a number")?;
        Ok(Duration::from_nanos(*nanos))
    }
}

#[derive(Debug, Clone, Copy)]
enum Who {
    Server,
    Clients,
}
