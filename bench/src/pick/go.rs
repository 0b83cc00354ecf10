//! grpc-go's grpclb: `bench/peers/go/pick`.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::servers::{Servers, service};
use super::{DROP_EVERY, ENTRIES, Row, THREADS};
use crate::go;

/// The program: it says `ready`, and a row of JSON for each case whenever it
/// reads a number of picks.
pub(super) struct Peer {
    process: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    rows: usize,
}

impl Peer {
    /// Builds and starts it.
    ///
    /// # Errors
    /// If there is no Go, or grpc-go cannot be fetched.
    pub(super) fn start(servers: &Servers) -> Result<Self> {
        let program = go::build("pick")?;

        let mut lists = Vec::new();
        for entries in ENTRIES {
            for drops in [false, true] {
                let backends = entries - if drops { entries / DROP_EVERY } else { 0 };
                let name = service(entries, drops);
                lists.push(format!("{name},{entries},{drops},{backends}"));
            }
        }
        let mut process = Command::new(&program)
            .arg(servers.balancer.to_string())
            .args(&lists)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let ends = process.stdin.take().zip(process.stdout.take());
        let (stdin, stdout) = ends.context("a child without pipes")?;
        let mut peer = Self {
            process,
            stdin,
            stdout: BufReader::new(stdout).lines(),
            rows: lists.len() * THREADS.len(),
        };
        let first = peer.line()?;
        ensure!(first == "ready", "grpc-go said `{first}`");
        Ok(peer)
    }

    /// Has it measure each case once.
    ///
    /// # Errors
    /// If it has ended.
    pub(super) fn measure(&mut self, picks: u64) -> Result<Vec<Row>> {
        writeln!(self.stdin, "{picks}")?;
        (0..self.rows)
            .map(|_| {
                let line = self.line()?;
                serde_json::from_str(&line).with_context(|| format!("grpc-go said `{line}`"))
            })
            .collect()
    }

    fn line(&mut self) -> Result<String> {
        let line = self.stdout.next().context("grpc-go's program has ended")?;
        Ok(line?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
