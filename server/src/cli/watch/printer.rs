//! What comes down a stream, for a person or a program.

use std::collections::BTreeMap;
use std::io::{self, Write};

use lookaside_proto::addr;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::{LoadBalanceResponse, ServerList};
use serde_json::json;

use crate::cli::print::{Unwritable, print, print_as_is};
use crate::telemetry::{Escapes, escape, printable};

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

    /// Prints a response; fails if stdout does not take it.
    pub(super) fn print(&mut self, response: LoadBalanceResponse) -> Result<(), Unwritable> {
        let mut text = Vec::new();
        // Writing to a Vec does not fail.
        let _ = self.write(&mut text, response);
        let text = String::from_utf8_lossy(&text);
        if self.json {
            print_as_is(json_line(&text).as_bytes())
        } else {
            print(&text)
        }
    }

    fn write(&mut self, out: &mut impl Write, response: LoadBalanceResponse) -> io::Result<()> {
        let time = super::now();
        match response.load_balance_response_type {
            Some(LoadBalanceResponseType::InitialResponse(initial)) => {
                let interval = initial.client_stats_report_interval;
                let interval = interval
                    .as_ref()
                    .and_then(lookaside_proto::duration::from_proto);
                let seconds = interval.unwrap_or_default().as_secs_f64();
                if self.json {
                    let line =
                        json!({"time": time, "connected": true, "report_interval_s": seconds});
                    writeln!(out, "{line}")
                } else {
                    writeln!(
                        out,
                        "{time} connected; statistics asked for every {seconds} s"
                    )
                }
            }
            Some(LoadBalanceResponseType::ServerList(list)) => {
                self.lists += 1;
                let tally = Tally::of(&list);
                if self.json {
                    tally.write_json(out, &time, self.lists)
                } else {
                    tally.write_table(out, &time, self.lists)
                }
            }
            Some(LoadBalanceResponseType::FallbackResponse(_)) => {
                self.lists += 1;
                if self.json {
                    let line = json!({"time": time, "list": self.lists, "fallback": true});
                    writeln!(out, "{line}")
                } else {
                    let what = "no backend; clients use their fallback addresses";
                    writeln!(out, "{time} list {}: {what}", self.lists)
                }
            }
            None if self.json => writeln!(out, "{}", json!({"time": time, "unknown": true})),
            None => writeln!(out, "{time} a response that this version does not know"),
        }
    }
}

/// A line of JSON as it may be shown: serde leaves some characters that move or turn
/// what stands beside them.
fn json_line(line: &str) -> String {
    format!("{}\n", escape(line.trim_end(), Escapes::JsonLine))
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
                *tally.drops.entry(printable(category, 40)).or_default() += 1;
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

    fn write_table(&self, out: &mut impl Write, time: &str, number: u64) -> io::Result<()> {
        writeln!(
            out,
            "{time} list {number}: {}, {}",
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

    fn write_json(&self, out: &mut impl Write, time: &str, number: u64) -> io::Result<()> {
        let rows = |counts: &BTreeMap<String, usize>, key: &str| -> Vec<serde_json::Value> {
            let row = |(name, n): (&String, &usize)| json!({key: name, "entries": n, "share": self.share(*n)});
            counts.iter().map(row).collect()
        };
        let line = json!({
            "time": time,
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

#[cfg(test)]
mod tests {
    use lookaside_proto::lb_v1::Server;

    use super::*;

    fn printed(json: bool, category: &str) -> String {
        let drop = Server {
            load_balance_token: category.to_owned(),
            drop: true,
            ..Server::default()
        };
        let list = ServerList {
            servers: vec![drop],
        };
        let response = LoadBalanceResponse {
            load_balance_response_type: Some(LoadBalanceResponseType::ServerList(list)),
        };
        let mut text = Vec::new();
        Printer::new(json).write(&mut text, response).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_balancer_forges_no_line_and_every_line_has_its_time() {
        let hostile = "a\nlist 9: forged\u{1b}[2J~nonce";
        let table = printed(false, hostile);
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(!table.contains('\u{1b}'), "{table}");
        let (time, rest) = table.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{table}");
        assert!(rest.starts_with("list 1: 1 entry"), "{table}");
        let json = json_line(&printed(true, hostile));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(humantime::parse_rfc3339(json["time"].as_str().unwrap()).is_ok());
    }
}
