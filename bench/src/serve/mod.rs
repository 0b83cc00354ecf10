//! The servers under test, each in a process of its own: this binary, started
//! again with a hidden subcommand.
//!
//! A server says `listening ADDR`, then does what stdin says, one line each:
//!
//! | line in | line out |
//! |---|---|
//! | `push` | `pushed TIME`: the time ([`crate::clock::now`]) just before the change |
//! | `cpu` | `cpu NANOSECONDS`: user and system time of the process so far |
//!
//! It ends with stdin.

mod bytes_codec;
mod ours;
mod tonic_codec;

use std::io::BufRead as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tokio::task::JoinSet;

use crate::child::say;
use crate::{clock, process};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// This repository's.
    Ours,
    /// tonic, with a codec that copies an encoded list into each stream.
    BytesCodec,
    /// tonic, with the codec that its code generator makes.
    TonicCodec,
}

impl Kind {
    /// Every server.
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::BytesCodec, Self::TonicCodec];

    /// Its name on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::BytesCodec => "bytes-codec",
            Self::TonicCodec => "tonic-codec",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Which server.
    #[arg(long, value_enum)]
    kind: Kind,
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
    /// Makes the list after `change` changes the newest.
    fn push(&mut self, change: u64) -> Result<()>;
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
        Ok::<_, anyhow::Error>(match args.kind {
            Kind::TonicCodec => tonic_codec::start(args.addr, args.entries, &mut tasks).await?,
            Kind::BytesCodec => bytes_codec::start(args.addr, args.entries, &mut tasks).await?,
            Kind::Ours => ours::start(args.addr, args.entries, &mut tasks).await?,
        })
    })?;
    say(format_args!("listening {addr}"))?;

    let mut change = 0;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "push" => {
                change += 1;
                let before = clock::now();
                server.push(change).context("the server took no change")?;
                say(format_args!("pushed {before}"))?;
            }
            "cpu" => say(format_args!("cpu {}", clock::cpu()))?,
            other => bail!("the server does not understand `{other}`"),
        }
    }
    Ok(())
}
