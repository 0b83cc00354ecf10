//! This repository's client.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::{HeaderMap, Uri};
use lookaside_client::endpoint::Endpoint;
use lookaside_client::policy::PickArgs;
use lookaside_client::resolve::{FixedResolver, Resolution};
use lookaside_client::{Builder, Channel};
use tokio::time::timeout;

use super::servers::{Servers, service};
use super::{Case, DROP_EVERY, ENTRIES, Row, THREADS};
use crate::clock;
use crate::median::median;

/// How long all backends may take to be connected to.
const PATIENCE: Duration = Duration::from_secs(30);

/// Channels that are ready, and from what they pick.
pub(super) struct Subjects(Vec<(Case, Channel)>);

impl Subjects {
    pub(super) fn start(servers: &Servers) -> Result<Self> {
        let mut subjects = Vec::new();
        for entries in ENTRIES {
            for policy in POLICIES {
                let case = Case {
                    who: "ours".to_owned(),
                    policy: policy.name.to_owned(),
                    drops: policy.drops,
                    entries,
                    threads: 0,
                };
                let channel = servers.runtime.block_on(async {
                    let channel = (policy.channel)(servers, entries).connect().await?;
                    let used = match policy.drops {
                        true => entries - entries / DROP_EVERY,
                        false => entries,
                    };
                    let used = if policy.name == "pick_first" { 1 } else { used };
                    let connected = timeout(PATIENCE, connected(&channel, used)).await;
                    connected.with_context(|| format!("{case:?} has not connected"))?;
                    anyhow::Ok(channel)
                })?;
                subjects.push((case, channel));
            }
        }
        Ok(Self(subjects))
    }

    /// Measures each once.
    pub(super) fn measure(&self, picks: u64) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (case, channel) in &self.0 {
            for threads in THREADS {
                rows.push(Row {
                    case: Case {
                        threads,
                        ..case.clone()
                    },
                    ns: measure(channel, threads, picks)?,
                });
            }
        }
        Ok(rows)
    }
}

struct Policy {
    name: &'static str,
    drops: bool,
    channel: fn(&Servers, usize) -> Builder,
}

const POLICIES: [Policy; 6] = [
    Policy {
        name: "grpclb",
        drops: false,
        channel: |servers, entries| grpclb(servers, entries, false),
    },
    Policy {
        name: "grpclb",
        drops: true,
        channel: |servers, entries| grpclb(servers, entries, true),
    },
    Policy {
        name: "round_robin",
        drops: false,
        channel: |servers, entries| plain(servers, entries).round_robin(),
    },
    Policy {
        name: "pick_first",
        drops: false,
        channel: plain,
    },
    Policy {
        name: "random",
        drops: false,
        channel: |servers, entries| plain(servers, entries).random(),
    },
    Policy {
        name: "weighted",
        drops: false,
        channel: |servers, entries| plain(servers, entries).weighted(),
    },
];

fn grpclb(servers: &Servers, entries: usize, drops: bool) -> Builder {
    let target = format!("dns:///{}", service(entries, drops));
    Channel::builder(target).balancer(servers.balancer.to_string())
}

/// Without a balancer, and with weights in no simple proportion.
fn plain(servers: &Servers, entries: usize) -> Builder {
    let backends = servers.backends.iter().take(entries).enumerate();
    let endpoints = backends.map(|(at, addr)| {
        let mut endpoint = Endpoint::from(*addr);
        endpoint.weight = 1.0 + (at as f64).sqrt();
        endpoint
    });
    let endpoints: Vec<_> = endpoints.collect();
    let resolver = FixedResolver::new(Resolution::from(endpoints));
    Channel::builder("pick").resolver(resolver)
}

/// Waits until the channel has `count` connections, and picks from them.
async fn connected(channel: &Channel, count: usize) {
    // The picker follows within the same turn of the control task; the pause is
    // for that turn to end.
    while channel.metrics().subchannels.ready < count as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// What a pick sees of an RPC.
fn request() -> (Uri, HeaderMap) {
    (
        Uri::from_static("http://pick/helloworld.Greeter/SayHello"),
        HeaderMap::new(),
    )
}

/// The nanoseconds that a thread spends on a pick while as many threads pick as
/// there are: the median over chunks of picks that are too short to be
/// interrupted often. Of two threads only chunks count in which the other got on
/// about as far: on a machine that does something else they may not run together.
fn measure(channel: &Channel, threads: usize, picks: u64) -> Result<f64> {
    let parts: Vec<_> = (0..threads).map(|_| Parts::default()).collect();
    let barrier = Barrier::new(threads);
    let took: Option<Vec<_>> = std::thread::scope(|scope| {
        let (parts, barrier) = (&parts, &barrier);
        let threads = (0..threads).map(|own| {
            let channel = channel.clone();
            scope.spawn(move || time(&channel, picks / CHUNK, parts, own, barrier))
        });
        let threads: Vec<_> = threads.collect();
        let took = threads.into_iter().map(|thread| thread.join().ok());
        took.collect()
    });
    let took = took.context("a thread that picks has panicked")?;
    Ok(median(&took.concat()))
}

/// Picks between two looks at the clock.
const CHUNK: u64 = 1000;
/// Parts of a chunk, after each of which the other threads are told.
const PARTS: u64 = 10;
/// How many of theirs must go by meanwhile for them to have run as well, and
/// nobody to have been interrupted.
const TOGETHER: std::ops::RangeInclusive<u64> = PARTS / 3..=PARTS * 3;

/// How many parts a thread has behind it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Parts(AtomicU64);

/// The nanoseconds per pick of each chunk that counts.
fn time(channel: &Channel, count: u64, parts: &[Parts], own: usize, barrier: &Barrier) -> Vec<f64> {
    let (uri, headers) = request();
    let pick = || {
        let args = PickArgs::new(black_box(&uri), black_box(&headers));
        channel.with_pick(&args, |pick| {
            black_box(&pick);
        });
    };
    let others = || parts.iter().enumerate().filter(|(at, _)| *at != own);
    let behind = || others().map(|(_, parts)| parts.0.load(Relaxed));
    (0..CHUNK).for_each(|_| pick());
    barrier.wait();
    let mut took = Vec::new();
    for _ in 0..count {
        let before: Vec<_> = behind().collect();
        let started = clock::now();
        for _ in 0..PARTS {
            (0..CHUNK / PARTS).for_each(|_| pick());
            parts[own].0.fetch_add(1, Relaxed);
        }
        let ns = (clock::now() - started) as f64 / CHUNK as f64;
        let mut went_by = behind().zip(before).map(|(now, before)| now - before);
        if went_by.all(|parts| TOGETHER.contains(&parts)) {
            took.push(ns);
        }
    }
    took
}
