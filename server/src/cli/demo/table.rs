//! What the demo shows while it runs: a table at the top of a terminal, one line
//! a second elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;

use crate::cli::print::{Unwritable, show};

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

/// Shows rows again and again, on stderr: stdout is for the result. On a terminal the
/// table stays at the top, and everything else scrolls below it.
#[derive(Debug)]
pub(super) struct Table {
    pinned: bool,
}

impl Table {
    /// A table for this many rows; clears the terminal for it.
    pub(super) fn new(rows: usize) -> Result<Self, Unwritable> {
        let pinned = io::stderr().is_terminal();
        if pinned {
            // A header, the rows, the totals and an empty line; below them is the
            // part of the terminal that scrolls.
            let below = rows + 4;
            show(write!(
                io::stderr().lock(),
                "\x1b[2J\x1b[{below}r\x1b[{below};1H"
            ))?;
        }
        Ok(Self { pinned })
    }

    /// Whether it stays in its place, and may be drawn often.
    pub(super) fn is_live(&self) -> bool {
        self.pinned
    }

    /// Shows the rows; an error if nobody reads stderr any more.
    pub(super) fn draw(&self, rows: &[Row], rps: f64, failed: u64) -> Result<(), Unwritable> {
        show(self.try_draw(rows, rps, failed))
    }

    /// Prints a line that stays.
    pub(super) fn note(&self, line: &str) -> Result<(), Unwritable> {
        show(writeln!(io::stderr().lock(), "{line}"))
    }

    fn try_draw(&self, rows: &[Row], rps: f64, failed: u64) -> io::Result<()> {
        let mut out = io::stderr().lock();
        if !self.pinned {
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
        // The cursor is kept, and a narrow terminal cuts lines off: a wrapped one
        // would need two.
        write!(out, "\x1b7\x1b[H\x1b[?7l")?;
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
        write!(out, "\x1b[2K  {rps:.0} rps, {failed} failed\x1b[?7h\x1b8")?;
        out.flush()
    }
}

impl Drop for Table {
    /// The whole terminal scrolls again.
    fn drop(&mut self) {
        if self.pinned {
            // If the terminal is gone, nothing is left to restore.
            let _ = write!(io::stderr().lock(), "\x1b7\x1b[r\x1b8");
        }
    }
}
