//! What comes down a stream, for a person or a program.

use std::collections::BTreeMap;
use std::io::{self, Write};

use lookaside_proto::addr;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::{LoadBalanceResponse, ServerList};
use serde_json::json;

/// Prints lists for a person or a program.
pub(super) struct Printer {
    json: bool,
    /// How many have come.
    pub(super) lists: u64,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, lists: 0 }
    }

    /// Prints a response; fails when nobody reads stdout any more.
    pub(super) fn print(&mut self, response: LoadBalanceResponse) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match response.load_balance_response_type {
            Some(LoadBalanceResponseType::InitialResponse(initial)) => {
                let interval = initial.client_stats_report_interval;
                let interval = interval
                    .as_ref()
                    .and_then(lookaside_proto::duration::from_proto);
                let seconds = interval.unwrap_or_default().as_secs_f64();
                if self.json {
                    writeln!(
                        out,
                        "{}",
                        json!({"connected": true, "report_interval_s": seconds})
                    )
                } else {
                    writeln!(out, "connected; statistics asked for every {seconds} s")
                }
            }
            Some(LoadBalanceResponseType::ServerList(list)) => {
                self.lists += 1;
                let tally = Tally::of(&list);
                if self.json {
                    tally.write_json(&mut out, self.lists)
                } else {
                    tally.write_table(&mut out, self.lists)
                }
            }
            Some(LoadBalanceResponseType::FallbackResponse(_)) => {
                self.lists += 1;
                if self.json {
                    writeln!(out, "{}", json!({"list": self.lists, "fallback": true}))
                } else {
                    let what = "no backend; clients use their fallback addresses";
                    writeln!(out, "list {}: {what}", self.lists)
                }
            }
            None => writeln!(out, "a response that this version does not know"),
        }?;
        out.flush()
    }
}

/// A list, counted.
struct Tally {
    entries: usize,
    backends: BTreeMap<String, usize>,
    drops: BTreeMap<String, usize>,
}

impl Tally {
    fn of(list: &ServerList) -> Self {
        let mut tally = Self {
            entries: list.servers.len(),
            backends: BTreeMap::new(),
            drops: BTreeMap::new(),
        };
        for server in &list.servers {
            if server.drop {
                let token = server.load_balance_token.as_str();
                let category = token.split('~').next().unwrap_or(token);
                *tally.drops.entry(category.to_owned()).or_default() += 1;
            } else {
                let name = match addr::socket_addr(server) {
                    Ok(addr) => addr.to_string(),
                    Err(error) => format!("bad entry: {error}"),
                };
                *tally.backends.entry(name).or_default() += 1;
            }
        }
        tally
    }

    fn share(&self, count: usize) -> f64 {
        count as f64 / self.entries.max(1) as f64
    }

    fn write_table(&self, out: &mut impl Write, number: u64) -> io::Result<()> {
        writeln!(
            out,
            "list {number}: {}, {}",
            plural(self.entries, "entry", "entries"),
            plural(self.backends.len(), "backend", "backends")
        )?;
        writeln!(out, "  {:<28} {:>7} {:>9}", "", "entries", "share")?;
        let drops = self
            .drops
            .iter()
            .map(|(category, n)| (format!("drop {category}"), n));
        let backends = self.backends.iter().map(|(addr, n)| (addr.clone(), n));
        for (what, count) in backends.chain(drops) {
            writeln!(
                out,
                "  {what:<28} {count:>7} {:>7.2} %",
                self.share(*count) * 100.0
            )?;
        }
        Ok(())
    }

    fn write_json(&self, out: &mut impl Write, number: u64) -> io::Result<()> {
        let rows = |counts: &BTreeMap<String, usize>, key: &str| -> Vec<serde_json::Value> {
            let row = |(name, n): (&String, &usize)| json!({key: name, "entries": n, "share": self.share(*n)});
            counts.iter().map(row).collect()
        };
        let line = json!({
            "list": number,
            "entries": self.entries,
            "backends": rows(&self.backends, "address"),
            "drops": rows(&self.drops, "category"),
        });
        writeln!(out, "{line}")
    }
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
