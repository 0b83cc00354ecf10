//! What the demo shows while it runs: a table that stays in place on a
//! terminal, one line a second elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;

/// Width of a full bar, in characters.
const BAR: f64 = 30.0;

/// One backend as the table shows it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Where it is.
    pub(super) addr: SocketAddr,
    /// Its weight in the file.
    pub(super) weight: f64,
    /// Share of the calls it should get, of 1.
    pub(super) wanted: f64,
    /// Share of the calls it got since the last look, of 1.
    pub(super) seen: f64,
}

/// Prints rows again and again, to stderr: stdout is for the result.
#[derive(Debug)]
pub(super) struct Table {
    in_place: bool,
    drawn: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            in_place: io::stderr().is_terminal(),
            drawn: 0,
        }
    }

    /// Whether it draws over itself, and may be drawn often.
    pub(super) fn is_live(&self) -> bool {
        self.in_place
    }

    /// Shows the rows.
    pub(super) fn draw(&mut self, rows: &[Row], rps: f64, failed: u64) -> io::Result<()> {
        let mut out = io::stderr().lock();
        if !self.in_place {
            let shares: Vec<String> = rows
                .iter()
                .map(|row| {
                    format!(
                        "{} weight {} wanted {:.1} % seen {:.1} %",
                        row.addr,
                        row.weight,
                        row.wanted * 100.0,
                        row.seen * 100.0
                    )
                })
                .collect();
            return writeln!(
                out,
                "{rps:>6.0} rps  {failed} failed  {}",
                shares.join("  | ")
            );
        }
        if self.drawn > 0 {
            // Up to where the last table began; each line then clears itself.
            write!(out, "\x1b[{}A", self.drawn)?;
        }
        // A narrow terminal cuts lines off: a wrapped one would be two to redraw.
        write!(out, "\x1b[?7l")?;
        writeln!(
            out,
            "\x1b[2K  {:<22} {:>6} {:>8} {:>8}",
            "backend", "weight", "wanted", "seen"
        )?;
        for row in rows {
            let bar = "█".repeat((row.seen * BAR).round() as usize);
            writeln!(
                out,
                "\x1b[2K  {:<22} {:>6} {:>6.1} % {:>6.1} %  {bar}",
                row.addr,
                row.weight,
                row.wanted * 100.0,
                row.seen * 100.0
            )?;
        }
        writeln!(out, "\x1b[2K  {rps:.0} rps, {failed} failed\x1b[?7h")?;
        self.drawn = rows.len() + 2;
        Ok(())
    }

    /// Prints a line that stays.
    pub(super) fn note(&mut self, line: &str) -> io::Result<()> {
        self.drawn = 0;
        writeln!(io::stderr().lock(), "{line}")
    }
}
