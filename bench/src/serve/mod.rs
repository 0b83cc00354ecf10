//! The servers under test, each in a process of its own: this binary, started
//! again with a hidden subcommand, or the peer in Go.
//!
//! A server says `listening ADDR`, then does what stdin says, one line each:
//!
//! | line in | line out |
//! |---|---|
//! | `push` | `pushed TIME`: the time ([`crate::clock::now`]) just before the change |
//! | `cpu` | `cpu NANOSECONDS`: user and system time of the process so far |
//!
//! It ends with stdin.

mod app;
mod bytes_codec;
mod ours;
mod tonic_codec;

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tokio::task::JoinSet;

use crate::child::{Child, say, words};
use crate::{clock, go, process};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// This repository's.
    Ours,
    /// tonic, with a codec that copies an encoded list into each stream.
    BytesCodec,
    /// tonic, with the codec that its code generator makes.
    TonicCodec,
    /// Sixty lines on grpc-go (`bench/peers/go/fanout`).
    Go,
}

/// How a change of the backends reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Input {
    /// By a call within the process.
    Memory,
    /// By a file that is renamed into place.
    File,
    /// By a backend that registers; the list grows by it.
    Registration,
}

impl Kind {
    /// The servers that take changes in this way.
    pub(crate) fn with(input: Input) -> Vec<Self> {
        match input {
            Input::Memory => vec![Self::Ours, Self::BytesCodec, Self::TonicCodec, Self::Go],
            Input::File | Input::Registration => vec![Self::Ours, Self::Go],
        }
    }

    /// Its name on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::BytesCodec => "bytes-codec",
            Self::TonicCodec => "tonic-codec",
            Self::Go => "go",
        }
    }

    /// Starts one that listens on `addr`. Gives where it does.
    ///
    /// # Errors
    /// If it does not start, or cannot be built.
    pub(crate) async fn start(
        self,
        size: Size,
        input: Input,
        addr: &str,
    ) -> Result<(Child, String)> {
        let Size { entries, streams } = size;
        let mut server = match self {
            Self::Go => {
                let program = go::build("fanout")?;
                let args = format!("-addr {addr} -entries {entries} -by {}", input.as_str());
                Child::start_program(&program, &words(&[args]))?
            }
            _ => Child::start(&words(&[
                format!("serve --kind {} --input {}", self.as_str(), input.as_str()),
                format!("--addr {addr} --entries {entries} --streams {streams}"),
            ]))?,
        };
        let addr = server.hear_text("listening", PATIENCE).await?;
        Ok((server, addr))
    }
}

impl Input {
    /// Its name on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
            Self::Registration => "registration",
        }
    }
}

/// What a server is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Backends in its list.
    pub(crate) entries: usize,
    /// Connections to expect.
    pub(crate) streams: usize,
}

/// No server takes as long to start.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Which server.
    #[arg(long, value_enum)]
    kind: Kind,
    /// How changes reach it.
    #[arg(long, value_enum)]
    input: Input,
    /// Backends in its list.
    #[arg(long)]
    entries: usize,
    /// Where to listen.
    #[arg(long)]
    addr: SocketAddr,
    /// Connections to expect.
    #[arg(long)]
    streams: usize,
}

/// What a server under test can be told.
trait Push {
    /// Makes the list after `change` changes the newest. Gives the time
    /// ([`clock::now`]) just before the server could know.
    fn push(&mut self, change: u64) -> Result<u64>;
}

/// Runs a server until stdin ends.
pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    process::raise_open_files(args.streams + 50)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // The set ends with the runtime, and the runtime with this function.
    let mut tasks = JoinSet::new();
    let (addr, mut server): (SocketAddr, Box<dyn Push>) = runtime.block_on(async {
        let size = Size {
            entries: args.entries,
            streams: args.streams,
        };
        Ok::<_, anyhow::Error>(match (args.kind, args.input) {
            (Kind::TonicCodec, Input::Memory) => {
                tonic_codec::start(args.addr, args.entries, &mut tasks).await?
            }
            (Kind::BytesCodec, Input::Memory) => {
                bytes_codec::start(args.addr, args.entries, &mut tasks).await?
            }
            (Kind::Ours, Input::Memory) => ours::start(args.addr, args.entries, &mut tasks).await?,
            (Kind::Ours, input) => app::start(args.addr, size, input, &mut tasks).await?,
            (kind, input) => bail!(
                "`{}` does not take changes by {}",
                kind.as_str(),
                input.as_str()
            ),
        })
    })?;
    say(format_args!("listening {addr}"))?;

    let mut change = 0;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "push" => {
                change += 1;
                let before = server.push(change).context("the server took no change")?;
                say(format_args!("pushed {before}"))?;
            }
            "cpu" => say(format_args!("cpu {}", clock::cpu()))?,
            other => bail!("the server does not understand `{other}`"),
        }
    }
    Ok(())
}
