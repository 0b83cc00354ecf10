//! Medians, a table and a line of JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::FanoutArgs;
use crate::median::median;
use crate::serve::Kind;

/// One round of one server.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// From the change to half of the clients, each push, ms.
    pub(super) p50_ms: Vec<f64>,
    /// From the change to 99 of 100 clients.
    pub(super) p99_ms: Vec<f64>,
    /// From the change to the last client.
    pub(super) last_ms: Vec<f64>,
    /// User and system time of the server, each push, by streams, µs.
    pub(super) cpu_us_per_list: Vec<f64>,
    /// Most that was resident in the push of the whole list, over what was
    /// before it.
    pub(super) rss_growth_mb: f64,
    /// Anonymous memory by streams, before that push.
    pub(super) rss_kb_per_stream: f64,
    /// The same after all pushes.
    pub(super) rss_kb_per_stream_after_pushes: f64,
    /// The same after three mass reconnects.
    pub(super) rss_kb_per_stream_after_reconnects: Option<f64>,
    /// Length of the message.
    pub(super) list_bytes: u64,
    /// Share of the machine's CPUs that others used meanwhile.
    pub(super) foreign_load: f64,
}

/// Every round of every server.
#[derive(Debug, Default)]
pub(super) struct Report {
    samples: BTreeMap<Kind, Vec<Sample>>,
}

/// Medians over the rounds, of medians over the pushes of a round.
#[derive(Debug, Clone, Copy)]
struct Medians {
    p50_ms: f64,
    p99_ms: f64,
    last_ms: f64,
    cpu_us_per_list: f64,
    rss_growth_mb: f64,
    rss_kb_per_stream: f64,
    after_pushes: f64,
    after_reconnects: Option<f64>,
    foreign_load: f64,
}

/// The JSON; a server that was not measured has no key.
#[derive(Debug, Serialize)]
struct Line {
    streams: usize,
    entries: usize,
    input: &'static str,
    list_bytes: u64,
    #[serde(flatten)]
    servers: BTreeMap<String, Figures>,
}

#[derive(Debug, Serialize)]
struct Figures {
    p50_ms: f64,
    p99_ms: f64,
    last_ms: f64,
    cpu_us_per_list: f64,
    rss_kb_per_stream: f64,
    rss_growth_mb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_kb_per_stream_after_pushes: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_kb_per_stream_after_reconnects: Option<f64>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.1} ms, p99 {:.1} ms, {:.1} µs a list, {:.1} kB a stream, grows {:.2} MB; others used {:.0} % of the CPUs",
            median(&self.p50_ms),
            median(&self.p99_ms),
            median(&self.cpu_us_per_list),
            self.rss_kb_per_stream,
            self.rss_growth_mb,
            self.foreign_load * 100.0,
        )
    }
}

impl Report {
    pub(super) fn add(&mut self, kind: Kind, sample: Sample) {
        self.samples.entry(kind).or_default().push(sample);
    }

    /// The table, and the JSON if wanted.
    pub(super) fn print(&self, args: &FanoutArgs) -> Result<()> {
        let FanoutArgs {
            streams,
            entries,
            profile,
            input,
            json,
            ..
        } = *args;
        let mut out = std::io::stdout().lock();
        let samples = self.samples.values().flatten();
        let list_bytes = samples.map(|sample| sample.list_bytes).max();
        let list_bytes = list_bytes.unwrap_or_default();
        writeln!(
            out,
            "{streams} streams, {entries} entries ({list_bytes} bytes), changes by {}, clients as {}",
            input.as_str(),
            profile.as_str()
        )?;
        writeln!(
            out,
            "               p50     p99    last       CPU   idle kB a stream: after    after   growth  others'"
        )?;
        writeln!(
            out,
            "server          ms      ms      ms   µs/list    fresh   pushes  reconnects     MB     CPU"
        )?;
        let mut line = Line {
            streams,
            entries,
            input: input.as_str(),
            list_bytes,
            servers: BTreeMap::new(),
        };
        for (kind, samples) in &self.samples {
            let m = Medians::of(samples);
            let reconnect = m.after_reconnects.map(|kb| format!("{kb:.1}"));
            writeln!(
                out,
                "{:<11} {:>6.1} {:>7.1} {:>7.1} {:>9.2} {:>8.1} {:>8.1} {:>11} {:>6.1} {:>6.0}%",
                kind.as_str(),
                m.p50_ms,
                m.p99_ms,
                m.last_ms,
                m.cpu_us_per_list,
                m.rss_kb_per_stream,
                m.after_pushes,
                reconnect.as_deref().unwrap_or("-"),
                m.rss_growth_mb,
                m.foreign_load * 100.0
            )?;
            let key = kind.as_str().replace('-', "_");
            line.servers.insert(key, m.figures());
        }
        if json {
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        }
        Ok(out.flush()?)
    }
}

impl Medians {
    fn of(samples: &[Sample]) -> Self {
        let over = |of: &dyn Fn(&Sample) -> f64| {
            let values: Vec<f64> = samples.iter().map(of).collect();
            median(&values)
        };
        let reconnects: Vec<f64> = samples
            .iter()
            .filter_map(|sample| sample.rss_kb_per_stream_after_reconnects)
            .collect();
        Self {
            p50_ms: over(&|s| median(&s.p50_ms)),
            p99_ms: over(&|s| median(&s.p99_ms)),
            last_ms: over(&|s| median(&s.last_ms)),
            cpu_us_per_list: over(&|s| median(&s.cpu_us_per_list)),
            rss_growth_mb: over(&|s| s.rss_growth_mb),
            rss_kb_per_stream: over(&|s| s.rss_kb_per_stream),
            after_pushes: over(&|s| s.rss_kb_per_stream_after_pushes),
            after_reconnects: (!reconnects.is_empty()).then(|| median(&reconnects)),
            foreign_load: over(&|s| s.foreign_load),
        }
    }

    fn figures(&self) -> Figures {
        let reconnects = self.after_reconnects.map(round);
        Figures {
            p50_ms: round(self.p50_ms),
            p99_ms: round(self.p99_ms),
            last_ms: round(self.last_ms),
            cpu_us_per_list: round(self.cpu_us_per_list),
            rss_kb_per_stream: round(self.rss_kb_per_stream),
            rss_growth_mb: round(self.rss_growth_mb),
            rss_kb_per_stream_after_pushes: reconnects.map(|_| round(self.after_pushes)),
            rss_kb_per_stream_after_reconnects: reconnects,
        }
    }
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
