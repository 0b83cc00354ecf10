//! `storm`: every client connects at once, and again when the server has been
//! killed and started anew.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use crate::backends::SERVICE;
use crate::child::{Child, words};
use crate::serve::Kind;
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

/// Runs both storms and reports.
pub(crate) fn run(args: &StormArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (used, all) = process::machine_cpu()?;
    let storm = runtime.block_on(measure(args))?;
    let (used, all) = {
        let now = process::machine_cpu()?;
        (now.0 - used, now.1 - all)
    };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} streams, {} entries, clients as {}, server {}",
        args.streams,
        args.entries,
        args.profile.as_str(),
        args.kind.as_str()
    )?;
    writeln!(out, "first connect to last list       {:.3} s", storm.first)?;
    writeln!(
        out,
        "kill of the server to last list  {:.3} s ({:.3} s from the new one's listening)",
        storm.after_restart, storm.from_listening
    )?;
    writeln!(out, "clients without a list           {}", storm.lost)?;
    writeln!(
        out,
        "CPUs busy, servers and clients included: {:.0} %",
        used.as_secs_f64() / all.as_secs_f64() * 100.0
    )?;
    if args.json {
        let line = json!({
            "streams": args.streams,
            "first_s": (storm.first * 1000.0).round() / 1000.0,
            "after_restart_s": (storm.after_restart * 1000.0).round() / 1000.0,
            "lost": storm.lost,
        });
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

struct Storm {
    first: f64,
    after_restart: f64,
    from_listening: f64,
    lost: u64,
}

async fn measure(args: &StormArgs) -> Result<Storm> {
    let (server, addr) = start_server(args, "127.0.0.1:0").await?;
    let clients = [
        format!("swarm --addr {addr} --service {SERVICE} --reconnect"),
        format!(
            "--streams {} --profile {}",
            args.streams,
            args.profile.as_str()
        ),
    ];
    let mut clients = Child::start(&words(&clients))?;

    clients.tell(&format!("connect {}", args.streams)).await?;
    let (first, lost) = last_list(&mut clients, args, None).await?;
    // Let what is left of the first storm settle.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let killed = clock::now();
    server.kill().await?;
    let (server, _) = start_server(args, &addr).await?;
    let listening = clock::now();
    let (after_restart, lost_again) = last_list(&mut clients, args, Some(killed)).await?;
    server.kill().await?;
    clients.kill().await?;
    let start = (listening - killed) as f64 / 1e9;
    Ok(Storm {
        first,
        after_restart,
        from_listening: after_restart - start,
        lost: lost + lost_again,
    })
}

async fn start_server(args: &StormArgs, addr: &str) -> Result<(Child, String)> {
    let server = [
        format!("serve --kind {} --addr {addr}", args.kind.as_str()),
        format!("--entries {} --streams {}", args.entries, args.streams),
    ];
    let mut server = Child::start(&words(&server))?;
    let addr = server.hear_text("listening", PATIENCE).await?;
    Ok((server, addr))
}

/// Seconds until the last client has its list, from `since` or the first
/// connect, and how many never got one.
async fn last_list(
    clients: &mut Child,
    args: &StormArgs,
    since: Option<u64>,
) -> Result<(f64, u64)> {
    let ready = clients.hear("ready", PATIENCE).await;
    if let Ok(ready) = ready {
        let &[first, last, _] = &ready[..] else {
            anyhow::bail!("the clients said {ready:?}");
        };
        let seconds = (last - since.unwrap_or(first)) as f64 / 1e9;
        return Ok((seconds, 0));
    }
    clients.tell("status").await?;
    let status = clients.hear("status", PATIENCE).await?;
    let with_list = status.first().context("a status without numbers")?;
    let lost = (args.streams as u64).saturating_sub(*with_list);
    Ok((PATIENCE.as_secs_f64(), lost))
}
