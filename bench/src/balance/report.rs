//! Two tables and a line of JSON.

use std::io::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::kill::Via;
use super::latency::Latencies;
use super::level::Level;
use super::policy::Policy;
use super::{Phase, Workload};

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) kills: Vec<(Via, Vec<f64>)>,
    /// Shares of the machine's CPUs, while policies ran.
    pub(super) cpu: Cpu,
}

/// Who used the machine's CPUs, as shares of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Cpu {
    pub(super) own: f64,
    pub(super) others: f64,
}

/// How one policy did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) policy: Policy,
    pub(super) level: Level,
    pub(super) calls: Calls,
}

/// The calls, by phase.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) before: Latencies,
    pub(super) change: Latencies,
    pub(super) after: Latencies,
}

/// The JSON.
#[derive(Debug, Serialize)]
struct Line {
    policies: Vec<Row>,
    kill_to_all_lists_p99_ms: Option<f64>,
    kills: Vec<KillRow>,
    calls_per_second: f64,
    report_interval_s: f64,
    cpu: Cpu,
}

/// The worse of before and after; latencies and failures of both together, and the
/// failures of the time in between.
#[derive(Debug, Serialize)]
struct Row {
    policy: &'static str,
    max_over_avg: f64,
    p50_ms: f64,
    p99_ms: f64,
    failed: u64,
    calls: u64,
    before: PhaseRow,
    after: PhaseRow,
    failed_in_change: u64,
}

#[derive(Debug, Serialize)]
struct PhaseRow {
    max_over_avg: f64,
    mean_max_over_avg: f64,
    p50_ms: f64,
    p99_ms: f64,
    failed: u64,
    utilization: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct KillRow {
    via: &'static str,
    kills: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl Report {
    /// The tables, and the JSON if wanted.
    pub(super) fn print(&self, workload: &Workload, json: bool) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let policies: Vec<Row> = self.outcomes.iter().map(Row::of).collect();
        if !policies.is_empty() {
            writeln!(
                out,
                "{:.0} calls/s to each policy's backends, reports every {:.0} s; CPU {:.0} % own, {:.0} % others'",
                workload.calls_per_second(),
                workload.interval.as_secs_f64(),
                self.cpu.own * 100.0,
                self.cpu.others * 100.0
            )?;
            writeln!(
                out,
                "                       before                                  |  change |  after"
            )?;
            writeln!(
                out,
                "policy                 max/avg: p99  mean  p50 ms  p99 ms  failed |  failed |  max/avg: p99  mean  p50 ms  p99 ms  failed"
            )?;
        }
        for row in &policies {
            let phase = |phase: &PhaseRow| {
                format!(
                    "{:>12.3} {:>6.3} {:>6.0} {:>7.0} {:>7}",
                    phase.max_over_avg,
                    phase.mean_max_over_avg,
                    phase.p50_ms,
                    phase.p99_ms,
                    phase.failed
                )
            };
            writeln!(
                out,
                "{:<22} {} | {:>7} | {}",
                row.policy,
                phase(&row.before),
                row.failed_in_change,
                phase(&row.after)
            )?;
        }
        let kills = self.kills.iter().map(|(via, took)| KillRow::of(*via, took));
        let kills: Vec<KillRow> = kills.collect();
        for row in &kills {
            writeln!(
                out,
                "killed, noticed by {}: out of every list after {:.0} ms (median), {:.0} ms (p99), {:.0} ms (most) of {} kills",
                row.via, row.p50_ms, row.p99_ms, row.max_ms, row.kills
            )?;
        }
        if json {
            // Registrations alone are not what the bar is about.
            let barred = self.kills.iter().zip(&kills);
            let barred = barred.filter(|((via, _), _)| *via != Via::Registration);
            let worst = barred.map(|(_, row)| row.p99_ms).reduce(f64::max);
            let line = Line {
                policies,
                kill_to_all_lists_p99_ms: worst,
                kills,
                calls_per_second: round(workload.calls_per_second()),
                report_interval_s: workload.interval.as_secs_f64(),
                cpu: Cpu {
                    own: round(self.cpu.own),
                    others: round(self.cpu.others),
                },
            };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        }
        Ok(out.flush()?)
    }
}

impl Row {
    fn of(outcome: &Outcome) -> Self {
        let Calls {
            before,
            change,
            after,
        } = &outcome.calls;
        let mut settled = before.clone();
        settled.merge(after);
        let phase = |phase: Phase, calls| PhaseRow::of(&outcome.level, phase, calls);
        let rows = (phase(Phase::Before, before), phase(Phase::After, after));
        Self {
            policy: outcome.policy.as_str(),
            max_over_avg: rows.0.max_over_avg.max(rows.1.max_over_avg),
            p50_ms: settled.quantile(0.5),
            p99_ms: settled.quantile(0.99),
            failed: settled.failed + change.failed,
            calls: settled.calls + change.calls,
            before: rows.0,
            after: rows.1,
            failed_in_change: change.failed,
        }
    }
}

impl PhaseRow {
    fn of(level: &Level, phase: Phase, calls: &Latencies) -> Self {
        let (p99, mean) = level.of(phase as usize);
        let used = level.used(phase as usize);
        Self {
            max_over_avg: round(p99),
            mean_max_over_avg: round(mean),
            p50_ms: calls.quantile(0.5),
            p99_ms: calls.quantile(0.99),
            failed: calls.failed,
            utilization: used.into_iter().map(round).collect(),
        }
    }
}

impl KillRow {
    fn of(via: Via, took: &[f64]) -> Self {
        let mut sorted = took.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            let found = sorted.get(rank.saturating_sub(1));
            round(found.copied().unwrap_or(f64::NAN))
        };
        Self {
            via: via.as_str(),
            kills: took.len(),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            max_ms: quantile(1.0),
        }
    }
}

fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
