//! Sums, a table and a line of JSON.

use std::fmt;
use std::io::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::median::median;

/// What one client noticed of one kill.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kill {
    /// Its RPCs that the backend had begun and not ended.
    pub(super) under_way: i64,
    /// Answered while the kill was watched.
    pub(super) rpcs: u64,
    /// Failed, and had begun before the first failure came back.
    pub(super) at_once: u64,
    /// Failed, and began later.
    pub(super) later: u64,
    /// From the restart until the backend had answered a new RPC.
    pub(super) picked_ms: f64,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} under way, {} failed at once and {} later, {} answered, picked again after {:.0} ms",
            self.under_way, self.at_once, self.later, self.rpcs, self.picked_ms
        )
    }
}

/// Every kill, by client.
#[derive(Debug, Default)]
pub(super) struct Report {
    clients: Vec<(&'static str, Vec<Kill>)>,
}

/// The JSON.
#[derive(Debug, Serialize)]
struct Line {
    rows: Vec<Row>,
}

/// Sums over the kills, of one client.
#[derive(Debug, Serialize)]
struct Row {
    who: &'static str,
    kills: usize,
    answered: u64,
    /// What the killed backends had begun and not ended.
    under_way: i64,
    failed: u64,
    failed_at_once: u64,
    failed_later: u64,
    picked_again_ms: f64,
    picked_again_max_ms: f64,
}

impl Report {
    pub(super) fn add(&mut self, who: &'static str, kill: Kill) {
        match self.clients.iter_mut().find(|(client, _)| *client == who) {
            Some((_, kills)) => kills.push(kill),
            None => self.clients.push((who, vec![kill])),
        }
    }

    /// The table, and the JSON if wanted.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "                                under way           failed              picked again, ms"
        )?;
        writeln!(
            out,
            "client        kills   answered  when killed   at once    later   median     max"
        )?;
        let rows = self.clients.iter().map(|(who, kills)| Row::of(who, kills));
        let rows: Vec<Row> = rows.collect();
        for row in &rows {
            writeln!(
                out,
                "{:<13} {:>5} {:>10} {:>12} {:>9} {:>8} {:>8.0} {:>7.0}",
                row.who,
                row.kills,
                row.answered,
                row.under_way,
                row.failed_at_once,
                row.failed_later,
                row.picked_again_ms,
                row.picked_again_max_ms,
            )?;
        }
        if json {
            writeln!(out, "{}", serde_json::to_string(&Line { rows })?)?;
        }
        Ok(out.flush()?)
    }
}

impl Row {
    fn of(who: &'static str, kills: &[Kill]) -> Self {
        let sum = |of: fn(&Kill) -> u64| kills.iter().map(of).sum::<u64>();
        let picked: Vec<f64> = kills.iter().map(|kill| kill.picked_ms).collect();
        Self {
            who,
            kills: kills.len(),
            answered: sum(|kill| kill.rpcs),
            under_way: kills.iter().map(|kill| kill.under_way).sum(),
            failed: sum(|kill| kill.at_once + kill.later),
            failed_at_once: sum(|kill| kill.at_once),
            failed_later: sum(|kill| kill.later),
            picked_again_ms: median(&picked).round(),
            picked_again_max_ms: picked.iter().copied().fold(0.0, f64::max).round(),
        }
    }
}
