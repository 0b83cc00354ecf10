//! `lookaside demo`: a balancer with its DNS, three backends and clients, in
//! one process and on loopback ports of their own; half-way a weight changes.

mod backends;
mod configuration;
mod join;
mod load;
mod table;

use std::fmt::Write as _;
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use lookaside_client::Channel;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use self::backends::BoundBackend;
use self::configuration::{NEW_WEIGHT, SERVICE, WEIGHTS, changed_weights, configuration};
use self::load::Load;
use self::table::{Row, Table};
use super::Failure;
use super::print::say;
use crate::app::{Addresses, App, AppOptions};
use crate::catalogue::Service;
use crate::config::set_weight;
use lookaside_core::model::{BackendAddr, ServiceName, Weight};
use lookaside_core::plan::Member;

/// Calls in progress at any time.
const CONCURRENCY: usize = 4;

/// When the weight changes if the demo has no end.
const CHANGE_AFTER: Duration = Duration::from_secs(8);

/// Arguments of `lookaside demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// End after so many seconds [default: run until Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=86_400))]
    seconds: Option<u64>,

    /// Print the result as one JSON object, the last line of stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DemoArgs) -> Result<(), Failure> {
    super::block_on(async {
        let mut demo = Demo::start().await?;
        let played = demo.play(args).await;
        demo.end().await;
        Ok(played?)
    })
}

/// Everything that runs.
struct Demo {
    // Removed, with the file in it, when the demo is dropped.
    folder: tempfile::TempDir,
    addresses: Addresses,
    backends: Vec<SocketAddr>,
    /// As the file has them now, 0 for drained.
    weights: Vec<f64>,
    service: Arc<Service>,
    channel: Channel,
    load: Arc<Load>,
    calls: JoinSet<()>,
    stop_calls: CancellationToken,
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Demo {
    async fn start() -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let mut backends = Vec::new();
        for _ in WEIGHTS {
            let backend = BoundBackend::bind()
                .await
                .context("cannot bind a backend")?;
            backends.push(backend.addr);
            let stop = stop.clone();
            tasks.spawn(async move { Ok(backend.run(stop).await?) });
        }

        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let config = folder.path().join("lookaside.toml");
        std::fs::write(&config, configuration(&backends)?)?;
        let app = App::bind(&config, AppOptions::default()).await?;
        let addresses = app.addresses();
        app.catalogue().ready().await;
        let service = app.catalogue().get(SERVICE);
        let service = service.context("the demo's configuration has its service")?;
        let stopped = stop.clone();
        tasks.spawn(async move { Ok(app.run(stopped).await?) });

        let dns = addresses
            .dns
            .context("the demo's configuration has [dns]")?;
        let channel = Channel::builder(format!("dns://{dns}/{SERVICE}:50051"))
            .connect()
            .await?;
        let load = Load::new(backends.clone());
        let stop_calls = CancellationToken::new();
        let mut calls = JoinSet::new();
        for _ in 0..CONCURRENCY {
            calls.spawn(Arc::clone(&load).run(channel.clone(), stop_calls.clone()));
        }
        Ok(Self {
            folder,
            addresses,
            backends,
            weights: WEIGHTS.to_vec(),
            service,
            channel,
            load,
            calls,
            stop_calls,
            stop,
            tasks,
        })
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("lookaside.toml")
    }

    async fn play(&mut self, args: &DemoArgs) -> anyhow::Result<()> {
        let start = Instant::now();
        let length = args.seconds.map(Duration::from_secs);
        let end = length.map(|length| start + length);
        let change_at = start + length.map_or(CHANGE_AFTER, |length| length / 2);
        let mut renamed = None;

        let table = Table::new(self.backends.len())?;
        self.introduce(&table)?;
        let mut ticks = interval(if table.is_live() {
            Duration::from_millis(250)
        } else {
            Duration::from_secs(1)
        });
        // The first tick is at once, and has nothing to show.
        ticks.tick().await;
        let mut before = (start, self.load.answered());
        loop {
            tokio::select! {
                // What ends the demo comes before what goes on in it.
                biased;
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    break;
                }
                () = at(end) => break,
                Some(ended) = self.tasks.join_next() => {
                    ended.context("a task of the demo failed")??;
                    bail!("a part of the demo ended by itself");
                }
                // Whoever edits the file takes it over.
                () = sleep_until(change_at), if renamed.is_none() && !self.is_edited() => {
                    renamed = Some(self.change_weight(&table)?);
                }
                now = ticks.tick() => {
                    self.follow_edits();
                    let answered = self.load.answered();
                    table.draw(
                        &self.rows(&before.1, &answered),
                        rate(&before.1, &answered, now.duration_since(before.0)),
                        self.load.failed(),
                    )?;
                    before = (now, answered);
                }
            }
        }
        drop(table);
        self.follow_edits();
        let reload = self.load.first_changed().zip(renamed);
        let reload = reload.map(|(first, renamed)| first.duration_since(renamed));
        self.report(reload, args.json)
    }

    fn introduce(&self, table: &Table) -> anyhow::Result<()> {
        let Addresses {
            balancer,
            admin,
            dns,
        } = self.addresses;
        let dns = dns.context("the demo's configuration has [dns]")?;
        table.note(&format!(
            "balancer {balancer}, DNS {dns}, metrics http://{admin}/metrics\n\
             configuration {}",
            self.config().display()
        ))?;
        let binary = join::this_binary();
        table.note(&join::instructions(
            SERVICE,
            balancer,
            dns,
            &self.config(),
            &binary,
        ))?;
        Ok(())
    }

    /// Edits the file as an operator would; returns when it was in place.
    fn change_weight(&self, table: &Table) -> anyhow::Result<Instant> {
        let path = self.config();
        let text = std::fs::read_to_string(&path)?;
        let service = ServiceName::parse(SERVICE)?;
        let backend = BackendAddr::new(self.backends[0])?;
        let text = set_weight(&text, &service, backend, Weight::new(NEW_WEIGHT)?)?;
        let new = self.folder.path().join("lookaside.toml.new");
        std::fs::write(&new, text)?;

        self.load.expect_change(self.channel.lists_followed());
        std::fs::rename(&new, &path)?;
        let renamed = Instant::now();
        table.note(&format!(
            "--- weight of {backend}: {} -> {NEW_WEIGHT}, in {}",
            WEIGHTS[0],
            path.display()
        ))?;
        Ok(renamed)
    }

    /// The weights that clients are sent now.
    fn weights_in_force(&self) -> Vec<f64> {
        let snapshot = self.service.snapshot();
        let members = snapshot.as_ref().map(|snapshot| &snapshot.plan.members[..]);
        let members = members.unwrap_or_default();
        let weight = |addr: &SocketAddr| {
            let member = members.iter().find(|m| m.addr.socket_addr() == *addr);
            member.map_or(0.0, Member::weight)
        };
        self.backends.iter().map(weight).collect()
    }

    /// Whether somebody else edited the file.
    fn is_edited(&self) -> bool {
        let weights = self.weights_in_force();
        weights != WEIGHTS && weights != changed_weights()
    }

    /// Shows the file's weights, and counts anew what somebody else's edit
    /// makes wrong.
    fn follow_edits(&mut self) {
        let weights = self.weights_in_force();
        if weights == self.weights {
            return;
        }
        self.weights = weights;
        if self.is_edited() {
            self.load.expect_change(0);
            self.load.recount();
        }
    }

    fn rows(&self, before: &[u64], now: &[u64]) -> Vec<Row> {
        let calls: Vec<u64> = now
            .iter()
            .zip(before)
            .map(|(now, then)| now - then)
            .collect();
        let seen = shares(&calls);
        // All drained is 0 of what clients are sent, not 0 of 0.
        let sum = self.weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let rows = self.backends.iter().enumerate().map(|(i, addr)| Row {
            addr: *addr,
            weight: self.weights[i],
            wanted: self.weights[i] / sum,
            seen: seen[i],
        });
        rows.collect()
    }

    fn report(&self, reload: Option<Duration>, as_json: bool) -> anyhow::Result<()> {
        let rpcs: u64 = self.load.answered().iter().sum::<u64>() + self.load.failed();
        let failed = self.load.failed();
        // An end before any change leaves nothing but the calls before it.
        let changed = self.load.changed();
        let (calls, when) = if changed.iter().sum::<u64>() > 0 {
            (changed, "after the last change")
        } else {
            (self.load.answered(), "in all")
        };
        let rows = self.rows(&vec![0; calls.len()], &calls);
        let mut summary = format!("\n{rpcs} RPCs, {failed} failed; shares {when}:\n");
        for row in &rows {
            writeln!(
                summary,
                "  {:<22} weight {:<4} wanted {:>5.1} %  seen {:>5.1} %",
                row.addr,
                row.weight,
                row.wanted * 100.0,
                row.seen * 100.0
            )?;
        }
        if let Some(reload) = reload {
            let ms = reload.as_secs_f64() * 1e3;
            writeln!(
                summary,
                "from the edit to the first call under it: {ms:.0} ms"
            )?;
        }
        if let Some(failure) = self.load.first_failure() {
            writeln!(summary, "the first failure: {failure}")?;
        }
        let backends: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "address": row.addr.to_string(),
                    "weight": row.weight,
                    "share_wanted": row.wanted,
                    "share_seen": row.seen,
                })
            })
            .collect();
        if as_json {
            say(&summary.trim_end());
            super::answer(&json!({
                "rpcs": rpcs,
                "failed": failed,
                "reload_ms": reload.map(|reload| reload.as_secs_f64() * 1e3),
                "backends": backends,
            }))?;
        } else {
            super::answer(&summary.trim_end())?;
        }
        Ok(())
    }

    async fn end(mut self) {
        // The clients first: they would complain of what ends under them.
        self.stop_calls.cancel();
        while self.calls.join_next().await.is_some() {}
        drop(self.channel);
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

fn shares(calls: &[u64]) -> Vec<f64> {
    let sum = calls.iter().sum::<u64>().max(1) as f64;
    calls.iter().map(|calls| *calls as f64 / sum).collect()
}

fn rate(before: &[u64], now: &[u64], over: Duration) -> f64 {
    let calls = now.iter().sum::<u64>() - before.iter().sum::<u64>();
    calls as f64 / over.as_secs_f64().max(1e-3)
}
