//! Processes of this binary, or of a peer, which one talks to in lines.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The allocator of every process of a run, tuned as the `lookaside` binary's.
const MALLOC_CONF: &str = "cache_oblivious:false,narenas:2,lg_extent_max_active_fit:0,\
                           dirty_decay_ms:1000,muzzy_decay_ms:0,thp:never";

/// A process that is killed when this is dropped.
pub(crate) struct Child {
    name: String,
    pid: u32,
    process: tokio::process::Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts this binary with these arguments.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn start(args: &[String]) -> Result<Self> {
        Self::start_program(&std::env::current_exe()?, args)
    }

    /// Starts this program with these arguments.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn start_program(program: &Path, args: &[String]) -> Result<Self> {
        let file = program.file_name().unwrap_or(program.as_os_str());
        let name = format!("{} {}", file.display(), args.join(" "));
        let mut process = Command::new(program)
            .args(args)
            .env("_RJEM_MALLOC_CONF", MALLOC_CONF)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{name}`"))?;
        let ends = process.stdin.take().zip(process.stdout.take());
        let (stdin, stdout) = ends.context("a child without pipes")?;
        Ok(Self {
            pid: process.id().context("a child without a process")?,
            process,
            stdin,
            stdout: BufReader::new(stdout).lines(),
            name,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a line.
    ///
    /// # Errors
    /// If the process is gone.
    pub(crate) async fn tell(&mut self, line: &str) -> Result<()> {
        let sent = self.stdin.write_all(format!("{line}\n").as_bytes()).await;
        sent.with_context(|| format!("`{}` is gone", self.name))
    }

    /// Waits for a line that begins with `word`; gives the numbers behind it.
    /// Lines of other words in between are dropped.
    ///
    /// # Errors
    /// If none comes in time, or the process ends.
    pub(crate) async fn hear(&mut self, word: &str, within: Duration) -> Result<Vec<u64>> {
        let text = self.hear_text(word, within).await?;
        let numbers = text.split_ascii_whitespace().map(str::parse);
        numbers
            .collect::<Result<_, _>>()
            .with_context(|| format!("`{}` said `{word} {text}`", self.name))
    }

    /// The same, as text.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub(crate) async fn hear_text(&mut self, word: &str, within: Duration) -> Result<String> {
        let heard = timeout(within, async {
            while let Some(line) = self.stdout.next_line().await? {
                let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
                if first == word {
                    return Ok(rest.to_owned());
                }
            }
            bail!("`{}` ended", self.name)
        });
        heard
            .await
            .with_context(|| format!("no `{word}` from `{}` within {within:?}", self.name))?
    }

    /// The next line, whatever it is; none if the process has ended. May be dropped
    /// at any time.
    ///
    /// # Errors
    /// If the pipe cannot be read.
    pub(crate) async fn next_line(&mut self) -> Result<Option<String>> {
        Ok(self.stdout.next_line().await?)
    }

    /// Kills it and does not wait: what it has said can still be read.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn start_kill(&mut self) -> Result<()> {
        Ok(self.process.start_kill()?)
    }

    /// Kills it and waits until the kernel has closed what it held.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}

/// The words of some text, as arguments.
pub(crate) fn words(parts: &[String]) -> Vec<String> {
    let words = parts.iter().flat_map(|part| part.split_ascii_whitespace());
    words.map(str::to_owned).collect()
}

/// What a child says: a line on stdout, now.
///
/// # Errors
/// If nobody listens.
pub(crate) fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
