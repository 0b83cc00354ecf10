//! Medians, ratios, a table and a line of JSON.

use std::io::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::{Scene, Who};
use crate::median::{interval, median};

/// What one client did in a turn or in a round; times in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    /// That were answered.
    pub(super) rpcs: u64,
    pub(super) failed: u64,
    pub(super) wall: f64,
    /// Of the client's process.
    pub(super) cpu: f64,
    /// Of all processes that an RPC meets.
    pub(super) path_cpu: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// CPU time that went to others meanwhile, and all that there was.
    pub(super) foreign: f64,
    pub(super) machine: f64,
}

impl Sample {
    /// A round: the sum of its turns, and the medians of their latencies.
    pub(super) fn of(turns: &[Self]) -> Self {
        let over = |of: fn(&Self) -> f64| median(&turns.iter().map(of).collect::<Vec<_>>());
        let sum = |of: fn(&Self) -> f64| turns.iter().map(of).sum();
        Self {
            rpcs: turns.iter().map(|turn| turn.rpcs).sum(),
            failed: turns.iter().map(|turn| turn.failed).sum(),
            wall: sum(|turn| turn.wall),
            cpu: sum(|turn| turn.cpu),
            path_cpu: sum(|turn| turn.path_cpu),
            p50: over(|turn| turn.p50),
            p99: over(|turn| turn.p99),
            foreign: sum(|turn| turn.foreign),
            machine: sum(|turn| turn.machine),
        }
    }

    fn rps(&self) -> f64 {
        self.rpcs as f64 / (self.wall / 1e9)
    }

    /// µs of CPU per RPC, answered or not.
    fn each(&self, nanos: f64) -> f64 {
        nanos / 1e3 / (self.rpcs + self.failed) as f64
    }
}

/// Every round of every scene.
#[derive(Debug, Default)]
pub(super) struct Report {
    groups: Vec<Group>,
}

/// The rounds that are compared with each other.
#[derive(Debug)]
struct Group {
    scene: Scene,
    concurrency: usize,
    rounds: Vec<Vec<(Who, Sample)>>,
}

/// The JSON.
#[derive(Debug, Serialize)]
struct Line {
    rows: Vec<Row>,
}

/// Medians over the rounds, of one client.
#[derive(Debug, Serialize)]
struct Row {
    who: &'static str,
    #[serde(skip)]
    scene: Scene,
    backends: usize,
    dead: usize,
    load: &'static str,
    concurrency: usize,
    rps: f64,
    p50_us: f64,
    p99_us: f64,
    /// In all rounds, and of how many.
    failed: u64,
    attempted: u64,
    /// CPU of the client's process, and of all processes on the way, by RPCs.
    cpu_us: f64,
    path_cpu_us: f64,
    /// RPCs per second by those of the plain channel in the same round.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_channel: Option<Ratio>,
    /// RPCs per second of client CPU, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_to_channel: Option<Ratio>,
    /// RPCs per second by those of `balance_list` in the same round.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_balance_list: Option<Ratio>,
    rounds: usize,
    /// Share of the machine's CPUs that went to others.
    others_cpu: f64,
}

/// A median, and between which two of the values the true one lies, by the sign
/// test.
#[derive(Debug, Clone, Copy, Serialize)]
struct Ratio {
    median: f64,
    low: f64,
    high: f64,
}

impl Report {
    pub(super) fn add(&mut self, scene: Scene, concurrency: usize, samples: Vec<(Who, Sample)>) {
        let last = self.groups.last_mut();
        match last.filter(|last| last.scene == scene && last.concurrency == concurrency) {
            Some(group) => group.rounds.push(samples),
            None => self.groups.push(Group {
                scene,
                concurrency,
                rounds: vec![samples],
            }),
        }
    }

    /// Says how far it is.
    pub(super) fn progress(&self, scene: Scene, concurrency: usize) {
        eprintln!("done: backends {scene}, {concurrency} at a time");
    }

    /// The table, and the JSON if wanted.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "backends  at a                              µs     µs  CPU µs an RPC:          RPCs/s to the plain channel's   per client CPU         others'"
        )?;
        writeln!(
            out,
            "(-dead)   time  client          RPCs/s     p50    p99  client     all   failed  median (95 %)                  median (95 %)             CPU"
        )?;
        let rows: Vec<Row> = self.groups.iter().flat_map(Group::rows).collect();
        for row in &rows {
            let scene = row.scene.to_string();
            writeln!(
                out,
                "{scene:<8} {:>5}  {:<13} {:>8.0} {:>7.1} {:>6.0} {:>7.2} {:>7.2} {:>7.2}%  {:<30} {:<23} {:>5.0}%",
                row.concurrency,
                row.who,
                row.rps,
                row.p50_us,
                row.p99_us,
                row.cpu_us,
                row.path_cpu_us,
                100.0 * row.failed as f64 / row.attempted as f64,
                Ratio::show(row.to_channel),
                Ratio::show(row.cpu_to_channel),
                row.others_cpu * 100.0,
            )?;
        }
        for row in &rows {
            if let Some(ratio) = row.to_balance_list {
                writeln!(
                    out,
                    "{} to balance_list, {} backends, {} dead, {} at a time: {}",
                    row.who,
                    row.backends,
                    row.dead,
                    row.concurrency,
                    Ratio::show(Some(ratio))
                )?;
            }
        }
        if json {
            writeln!(out, "{}", serde_json::to_string(&Line { rows })?)?;
        }
        Ok(out.flush()?)
    }
}

impl Group {
    /// A row for each client; their order is that of the first round.
    fn rows(&self) -> Vec<Row> {
        let first = self.rounds.first();
        let clients = first.into_iter().flatten().map(|(who, _)| *who);
        clients.map(|who| self.row(who)).collect()
    }

    fn row(&self, who: Who) -> Row {
        let over = |of: &dyn Fn(&Sample) -> f64| median(&self.values(who, of));
        let sum = |of: &dyn Fn(&Sample) -> f64| self.values(who, of).iter().sum::<f64>() as u64;
        let failed = sum(&|s| s.failed as f64);
        let ratio = |other: Who, of: &dyn Fn(&Sample) -> f64| {
            (who != other).then(|| self.ratio(who, other, of)).flatten()
        };
        Row {
            who: who.as_str(),
            scene: self.scene,
            backends: self.scene.backends,
            dead: self.scene.dead,
            load: self.scene.load.as_str(),
            concurrency: self.concurrency,
            rps: round(over(&Sample::rps)),
            p50_us: round(over(&|s| s.p50 / 1e3)),
            p99_us: round(over(&|s| s.p99 / 1e3)),
            failed,
            attempted: failed + sum(&|s| s.rpcs as f64),
            cpu_us: round(over(&|s| s.each(s.cpu))),
            path_cpu_us: round(over(&|s| s.each(s.path_cpu))),
            to_channel: ratio(Who::Channel, &Sample::rps),
            cpu_to_channel: ratio(Who::Channel, &|s| 1.0 / s.each(s.cpu)),
            to_balance_list: match who {
                Who::Ours => ratio(Who::BalanceList, &Sample::rps),
                _ => None,
            },
            rounds: self.rounds.len(),
            others_cpu: round(over(&|s| (s.foreign / s.machine).max(0.0))),
        }
    }

    /// `who` by `other`, round by round.
    fn ratio(&self, who: Who, other: Who, of: &dyn Fn(&Sample) -> f64) -> Option<Ratio> {
        let pairs = self.values(who, of).into_iter().zip(self.values(other, of));
        let ratios: Vec<f64> = pairs.map(|(one, other)| one / other).collect();
        let (low, high) = interval(&ratios);
        (!ratios.is_empty()).then(|| Ratio {
            median: precise(median(&ratios)),
            low: precise(low),
            high: precise(high),
        })
    }

    /// One figure of each of `who`'s turns; none if it is not there.
    fn values(&self, who: Who, of: &dyn Fn(&Sample) -> f64) -> Vec<f64> {
        let samples = self.rounds.iter().flatten();
        let own = samples.filter(|(whose, _)| *whose == who);
        own.map(|(_, sample)| of(sample)).collect()
    }
}

impl Ratio {
    fn show(ratio: Option<Self>) -> String {
        match ratio {
            Some(Self { median, low, high }) => format!("{median:.3} ({low:.3} to {high:.3})"),
            None => "-".to_owned(),
        }
    }
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn precise(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}
