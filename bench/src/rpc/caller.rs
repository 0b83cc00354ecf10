//! The client process: as many RPCs as it can, so many at a time, over one
//! channel and on one thread.
//!
//! It says `ready` once the channel is there. Then, for each line of stdin,
//! `run MILLIS CONCURRENCY`, it says `ran RPCS FAILED WALL CPU P50 P99`, all but
//! the counts in nanoseconds.

use std::any::Any;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::channels::{Callable, Either, Kind, begin, connect, echo};
use crate::child::say;
use crate::clock;

/// What a small request says, and its answer.
const MESSAGE: &str = "a message of thirty-two letters.";

/// Bytes of a large message.
const LARGE: usize = 1 << 20;

/// Responses that nobody reads, and their bytes: more together than the window that
/// tonic's and this repository's channels have for a connection at first, and each more
/// than that of a stream.
const UNREAD: usize = 3;
const UNREAD_BYTES: usize = 4_000_000;

/// The connection window that tonic's channel needs beside them.
const ROOM: u32 = 64 << 20;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Small messages.
    Small,
    /// Requests and responses of 1 MiB.
    Large,
    /// Small messages, while [`UNREAD`] responses on the same connection are not read.
    Unread,
}

impl Load {
    /// Its name on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Unread => "unread",
        }
    }

    /// What a request says.
    fn message(self) -> String {
        match self {
            Self::Small | Self::Unread => MESSAGE.to_owned(),
            Self::Large => "x".repeat(LARGE),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CallerArgs {
    /// Which channel.
    #[arg(long, value_enum)]
    kind: Kind,
    /// What is called.
    #[arg(long, value_enum)]
    load: Load,
    /// The balancer of ours; the backends, or one of them, of the others.
    addrs: Vec<SocketAddr>,
}

/// What the tasks of a run saw.
#[derive(Debug, Default)]
struct Seen {
    failed: u64,
    nanos: Vec<u64>,
}

/// Does what stdin says until it ends.
pub(crate) fn run(args: &CallerArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let window = (args.load == Load::Unread).then_some(ROOM);
    let channel = runtime.block_on(connect(args.kind, &args.addrs, window))?;
    // Kept to the end of the process.
    let _unread = match args.load {
        Load::Unread => runtime.block_on(unread(&channel))?,
        Load::Small | Load::Large => vec![],
    };
    say(format_args!("ready"))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ["run", millis, concurrency] = words[..] else {
            bail!("the client does not understand `{line}`");
        };
        let over = Duration::from_millis(millis.parse()?);
        let concurrency = concurrency.parse()?;
        let (began, cpu) = (Instant::now(), clock::cpu());
        let mut seen = runtime.block_on(async {
            match &channel {
                Either::Ours(channel) => load(channel.clone(), args.load, over, concurrency).await,
                Either::Tonic(channel) => load(channel.clone(), args.load, over, concurrency).await,
            }
        });
        let (wall, cpu) = (began.elapsed().as_nanos(), clock::cpu() - cpu);
        seen.nanos.sort_unstable();
        say(format_args!(
            "ran {} {} {wall} {cpu} {} {}",
            seen.nanos.len(),
            seen.failed,
            quantile(&seen.nanos, 50),
            quantile(&seen.nanos, 99)
        ))?;
    }
    Ok(())
}

/// Begins RPCs whose responses come, and are not read as long as this is held.
async fn unread(channel: &Either) -> Result<Vec<Box<dyn Any>>> {
    let mut responses: Vec<Box<dyn Any>> = vec![];
    for _ in 0..UNREAD {
        let message = "x".repeat(UNREAD_BYTES);
        responses.push(match channel {
            Either::Ours(channel) => Box::new(begin(channel.clone(), message).await?),
            Either::Tonic(channel) => Box::new(begin(channel.clone(), message).await?),
        });
    }
    Ok(responses)
}

/// Calls for so long, `concurrency` RPCs at a time.
async fn load(channel: impl Callable, load: Load, over: Duration, concurrency: usize) -> Seen {
    let until = Instant::now() + over;
    let mut tasks = JoinSet::new();
    for _ in 0..concurrency {
        let mut stub = GreeterClient::new(channel.clone());
        let message = load.message();
        tasks.spawn(async move {
            let mut seen = Seen::default();
            let mut now = Instant::now();
            while now < until {
                let answer = echo(&mut stub, &message).await;
                let began = std::mem::replace(&mut now, Instant::now());
                match answer {
                    Ok(answer) if answer == message => {
                        let nanos = (now - began).as_nanos();
                        seen.nanos.push(u64::try_from(nanos).unwrap_or(u64::MAX));
                    }
                    _ => seen.failed += 1,
                }
            }
            seen
        });
    }
    let mut all = Seen::default();
    while let Some(Ok(seen)) = tasks.join_next().await {
        all.failed += seen.failed;
        all.nanos.extend(seen.nanos);
    }
    all
}

/// The value that `percent` of the sorted values do not exceed.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}
