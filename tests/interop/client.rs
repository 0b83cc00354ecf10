//! A `lookaside_client::Channel`, driven line by line like the clients of the
//! other languages (see `README.md`): SRV gives the balancer, TXT the policy.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lookaside_client::{Channel, ClientTls, WaitForReady};
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Request, Status};

/// RPCs of a load that are under way at a time, at most.
const LOAD_WORKERS: u32 = 4;

/// What became of RPCs.
#[derive(Debug, Default, Serialize)]
struct Counts {
    backends: BTreeMap<String, u64>,
    statuses: BTreeMap<String, u64>,
    messages: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default)]
struct Tally(Arc<Mutex<Counts>>);

impl Tally {
    fn add(&self, outcome: Result<String, Status>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let status = match &outcome {
            Ok(_) => "OK".to_owned(),
            Err(status) => name(status.code()),
        };
        *counts.statuses.entry(status.clone()).or_default() += 1;
        match outcome {
            Ok(backend) => *counts.backends.entry(backend).or_default() += 1,
            Err(error) => {
                let message = format!("{status}: {}", error.message());
                *counts.messages.entry(message).or_default() += 1;
            }
        }
    }

    fn take(&self) -> serde_json::Result<serde_json::Value> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_value(std::mem::take(&mut *counts))
    }
}

/// Spells a code as the other languages do: `DEADLINE_EXCEEDED`.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[derive(Clone)]
struct Client {
    channel: Channel,
    deadline: Duration,
}

impl Client {
    async fn rpc(&self, tally: &Tally, wait_for_ready: bool) {
        let mut request = Request::new(HelloRequest {
            name: "interop".to_owned(),
        });
        request.set_timeout(self.deadline);
        if wait_for_ready {
            request.extensions_mut().insert(WaitForReady);
        }
        let mut greeter = GreeterClient::new(self.channel.clone());
        let reply = greeter.say_hello(request).await;
        tally.add(reply.map(|reply| reply.into_inner().message));
    }

    async fn call(&self, count: u32, concurrency: u32, wait_for_ready: bool) -> Tally {
        let tally = Tally::default();
        let mut workers = JoinSet::new();
        for worker in 0..concurrency {
            let share = count / concurrency + u32::from(worker < count % concurrency);
            let (client, tally) = (self.clone(), tally.clone());
            workers.spawn(async move {
                for _ in 0..share {
                    client.rpc(&tally, wait_for_ready).await;
                }
            });
        }
        workers.join_all().await;
        tally
    }

    fn load(&self, per_second: f64) -> Load {
        let tally = Tally::default();
        let pause = Duration::from_secs_f64(f64::from(LOAD_WORKERS) / per_second);
        let (over, _) = watch::channel(false);
        let mut workers = JoinSet::new();
        for _ in 0..LOAD_WORKERS {
            let (client, tally, mut over) = (self.clone(), tally.clone(), over.subscribe());
            workers.spawn(async move {
                let mut due = Instant::now();
                loop {
                    tokio::select! {
                        _ = over.wait_for(|over| *over) => return,
                        () = sleep_until(due) => {}
                    }
                    due = (due + pause).max(Instant::now() - Duration::from_secs(1));
                    client.rpc(&tally, false).await;
                }
            });
        }
        Load {
            tally,
            over,
            workers,
        }
    }
}

/// RPCs one after another on a few tasks, until stopped.
struct Load {
    tally: Tally,
    over: watch::Sender<bool>,
    workers: JoinSet<()>,
}

#[derive(Default)]
struct Flags {
    service: Option<String>,
    dns: Option<String>,
    balancer: Option<String>,
    ca: Option<String>,
    deadline: Option<f64>,
}

impl Flags {
    fn parse() -> Result<Self> {
        let mut flags = Self::default();
        let mut words = std::env::args().skip(1);
        while let (Some(flag), Some(value)) = (words.next(), words.next()) {
            match flag.as_str() {
                "--service" => flags.service = Some(value),
                "--dns" => flags.dns = Some(value),
                "--balancer" => flags.balancer = Some(value),
                "--ca" => flags.ca = Some(value),
                "--deadline" => flags.deadline = Some(value.parse().context("--deadline")?),
                _ => bail!(
                    "unknown flag {flag}; --service, --dns, --balancer, --ca and --deadline are known"
                ),
            }
        }
        Ok(flags)
    }

    fn client(self) -> Result<Client> {
        let service = self.service.context("--service name:port is missing")?;
        let mut builder = match (self.dns, self.balancer) {
            (Some(dns), _) => {
                Channel::builder(format!("dns://{dns}/{service}")).txt_service_config(true)
            }
            (None, Some(balancer)) => {
                Channel::builder(format!("dns:///{service}")).balancer(balancer)
            }
            (None, None) => bail!("--dns ip:port or --balancer host:port is missing"),
        };
        if let Some(ca) = self.ca {
            let ca = std::fs::read(&ca).with_context(|| ca.clone())?;
            builder = builder
                .tls(ClientTls::new().ca_pem(ca.clone()))
                .balancer_tls(ClientTls::new().ca_pem(ca));
        }
        Ok(Client {
            channel: builder.connect_lazy()?,
            deadline: Duration::from_secs_f64(self.deadline.unwrap_or(5.0)),
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let client = Flags::parse()?.client()?;
    let mut load = None;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["call", count, concurrency, ref wait @ ..] => {
                let (count, concurrency) = (count.parse()?, concurrency.parse()?);
                let called = client.call(count, concurrency, wait == ["wait"]);
                called.await.take()?
            }
            ["load", "start", per_second] => {
                load = Some(client.load(per_second.parse()?));
                serde_json::json!({})
            }
            ["load", "take"] => match &load {
                Some(load) => load.tally.take()?,
                None => serde_json::json!({ "error": "there is no load" }),
            },
            ["load", "stop"] => match load.take() {
                Some(load) => {
                    load.over.send_replace(true);
                    load.workers.join_all().await;
                    load.tally.take()?
                }
                None => serde_json::json!({ "error": "there is no load" }),
            },
            ["quit"] => break,
            _ => serde_json::json!({ "error": format!("unknown command: {line}") }),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
