//! `storm`: every client connects at once, and again when the server has been
//! killed and started anew.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::backends::SERVICE;
use crate::child::{Child, words};
use crate::serve::{Input, Kind, Size};
use crate::swarm::Profile;
use crate::{clock, process};

/// How long the last client is waited for; whoever has no list then lost it.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// Clients, each with a connection and a stream of its own.
    #[arg(long, default_value_t = 10_000)]
    streams: usize,
    /// Entries of the list.
    #[arg(long, default_value_t = 100)]
    entries: usize,
    /// Whose HTTP/2 settings the clients have.
    #[arg(long, value_enum, default_value_t = Profile::Go)]
    profile: Profile,
    /// Which server.
    #[arg(long, value_enum, default_value_t = Kind::Ours)]
    kind: Kind,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

/// One of the two storms.
struct Storm {
    /// To the last list, from its beginning.
    seconds: f64,
    /// Clients that got no list.
    lost: u64,
    /// CPU of the server, by clients, µs.
    cpu_us: f64,
    /// Clients that the kernel turned away for a second.
    overflows: u64,
}

/// Runs both storms and reports.
pub(crate) fn run(args: &StormArgs) -> Result<()> {
    ensure!(args.streams > 0 && args.entries > 0, "nothing to measure");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let before = process::machine_cpu()?;
    let (first, second) = runtime.block_on(measure(args))?;
    let after = process::machine_cpu()?;
    let (used, all) = (after.0 - before.0, after.1 - before.1);
    let busy = used.as_secs_f64() / all.as_secs_f64() * 100.0;

    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} streams, {} entries, clients as {}, server {}; CPUs {busy:.0} % busy, this included",
        args.streams,
        args.entries,
        args.profile.as_str(),
        args.kind.as_str()
    )?;
    writeln!(
        out,
        "                               last list s   lost   server µs/client   accept queue full"
    )?;
    for (name, storm) in [
        ("all connect at once", &first),
        ("server killed and started anew", &second),
    ] {
        writeln!(
            out,
            "{name:<30} {:>12.3} {:>6} {:>18.1} {:>19}",
            storm.seconds, storm.lost, storm.cpu_us, storm.overflows
        )?;
    }
    if args.json {
        let line = Line {
            streams: args.streams,
            first_s: (first.seconds * 1000.0).round() / 1000.0,
            after_restart_s: (second.seconds * 1000.0).round() / 1000.0,
            lost: first.lost + second.lost,
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
    }
    Ok(out.flush()?)
}

#[derive(Debug, Serialize)]
struct Line {
    streams: usize,
    first_s: f64,
    after_restart_s: f64,
    lost: u64,
}

async fn measure(args: &StormArgs) -> Result<(Storm, Storm)> {
    let (mut server, addr) = start_server(args, "127.0.0.1:0").await?;
    let clients = [
        format!("swarm --addr {addr} --service {SERVICE} --reconnect"),
        format!(
            "--streams {} --profile {}",
            args.streams,
            args.profile.as_str()
        ),
    ];
    let mut clients = Child::start(&words(&clients))?;

    let overflows = process::listen_overflows()?;
    clients.tell(&format!("connect {}", args.streams)).await?;
    let first = last_list(&mut clients, &mut server, args, None, overflows).await?;
    // Let what is left of the first storm settle.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let overflows = process::listen_overflows()?;
    let killed = clock::now();
    server.kill().await?;
    let (mut server, _) = start_server(args, &addr).await?;
    let second = last_list(&mut clients, &mut server, args, Some(killed), overflows).await?;
    server.kill().await?;
    clients.kill().await?;
    Ok((first, second))
}

async fn start_server(args: &StormArgs, addr: &str) -> Result<(Child, String)> {
    let size = Size {
        entries: args.entries,
        streams: args.streams,
    };
    args.kind.start(size, Input::Memory, addr).await
}

/// Waits for the last client's list. The storm began at `since`, or with the
/// first connect.
async fn last_list(
    clients: &mut Child,
    server: &mut Child,
    args: &StormArgs,
    since: Option<u64>,
    overflows: u64,
) -> Result<Storm> {
    let ready = clients.hear("ready", PATIENCE).await;
    let (seconds, lost) = match ready.as_deref() {
        Ok(&[first, last, _]) => {
            let seconds = (last - since.unwrap_or(first)) as f64 / 1e9;
            (seconds, 0)
        }
        Ok(other) => bail!("the clients said {other:?}"),
        Err(_) => {
            clients.tell("status").await?;
            let status = clients.hear("status", PATIENCE).await?;
            let with_list = status.first().context("a status without numbers")?;
            let lost = (args.streams as u64).saturating_sub(*with_list);
            (PATIENCE.as_secs_f64(), lost)
        }
    };
    server.tell("cpu").await?;
    let cpu = server.hear("cpu", PATIENCE).await?;
    let cpu = cpu.first().context("a CPU time without a number")?;
    Ok(Storm {
        seconds,
        lost,
        cpu_us: *cpu as f64 / 1e3 / args.streams as f64,
        overflows: process::listen_overflows()? - overflows,
    })
}
