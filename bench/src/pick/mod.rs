//! What a pick costs: nanoseconds of the thread that picks, alone and beside
//! another one, through a channel that follows a balancer, and beside grpc-go's
//! picker for the same lists.
//!
//! Backends and balancer are real servers on loopback, and each client keeps a
//! connection to every backend of its list. Measured is what an RPC does before it
//! is sent: it loads what the channel has published, takes its turn among drops
//! and backends, gets connection and token, and is counted.

mod go;
mod ours;
mod servers;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use self::servers::Servers;
use crate::child::say;
use crate::median::median;
use crate::process;

/// Entries of the lists.
const ENTRIES: [usize; 2] = [10, 1000];
/// Threads that pick at the same time.
const THREADS: [usize; 2] = [1, 2];
/// Of the list with drops, one entry in so many is one.
const DROP_EVERY: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct PickArgs {
    /// Measurements of each, in turn with the others; the median counts.
    #[arg(long, default_value_t = 15)]
    rounds: usize,

    /// Picks of a thread in a round.
    #[arg(long, default_value_t = 1_000_000)]
    picks: u64,

    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Who picks from what, with how many threads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Case {
    who: String,
    policy: String,
    drops: bool,
    entries: usize,
    threads: usize,
}

/// One measurement, or the median of all.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    case: Case,
    /// Nanoseconds a thread spends on one pick.
    ns: f64,
}

/// The last line.
#[derive(Debug, Serialize)]
struct Line {
    rows: Vec<Row>,
}

/// Measures and prints.
pub(crate) fn run(args: &PickArgs) -> Result<()> {
    // Two per connection, and who listens, and the same for grpc-go's.
    process::raise_open_files(8192)?;
    let servers = Servers::start()?;
    let mut order = Vec::new();
    let mut measured: BTreeMap<Case, Vec<f64>> = BTreeMap::new();
    let mut take = |rows: Vec<Row>| {
        // Threads that never ran together measured nothing.
        for row in rows.into_iter().filter(|row| row.ns > 0.0) {
            if !measured.contains_key(&row.case) {
                order.push(row.case.clone());
            }
            measured.entry(row.case).or_default().push(row.ns);
        }
    };

    let subjects = ours::Subjects::start(&servers)?;
    let mut peer = match go::Peer::start(&servers) {
        Ok(peer) => Some(peer),
        Err(error) => {
            eprintln!("without grpc-go: {error:#}");
            None
        }
    };
    for round in 0..args.rounds {
        eprint!("\rround {} of {}", round + 1, args.rounds);
        take(subjects.measure(args.picks)?);
        if let Some(peer) = &mut peer {
            take(peer.measure(args.picks)?);
        }
    }
    eprintln!();

    let rows = order.into_iter().map(|case| {
        let ns = median(measured.get(&case).map_or(&[][..], Vec::as_slice));
        Row { case, ns }
    });
    let rows: Vec<_> = rows.collect();
    table(&rows)?;
    if args.json {
        say(format_args!("{}", serde_json::to_string(&Line { rows })?))?;
    }
    Ok(())
}

fn table(rows: &[Row]) -> Result<()> {
    say(format_args!(
        "| who | policy | entries | ns, 1 thread | ns, 2 threads | ratio |\n|---|---|---|---|---|---|"
    ))?;
    for alone in rows.iter().filter(|row| row.case.threads == 1) {
        let together = Case {
            threads: 2,
            ..alone.case.clone()
        };
        let together = rows.iter().find(|row| row.case == together);
        let ns = together.map_or(f64::NAN, |row| row.ns);
        let Case {
            who,
            policy,
            drops,
            entries,
            ..
        } = &alone.case;
        let drops = if *drops { " with drops" } else { "" };
        let ratio = ns / alone.ns;
        let alone = alone.ns;
        say(format_args!(
            "| {who} | {policy}{drops} | {entries} | {alone:.1} | {ns:.1} | {ratio:.1} |"
        ))?;
    }
    Ok(())
}
