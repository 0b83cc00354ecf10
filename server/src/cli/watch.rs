//! `lookaside watch`: a grpclb client that calls nobody, and prints what it is
//! told.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::Context as _;
use clap::Args;
use lookaside_client::backoff::Backoff;
use lookaside_proto::addr;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use lookaside_proto::lb_v1::{
    InitialLoadBalanceRequest, LoadBalanceRequest, LoadBalanceResponse, ServerList,
};
use serde_json::json;
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::Failure;

/// Arguments of `lookaside watch`.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Name of the service, as clients ask for it
    service: String,

    /// Address of the balancer, as 10.0.0.5:9000
    #[arg(long, value_name = "HOST:PORT")]
    balancer: String,

    /// End after this many lists
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &WatchArgs) -> Result<(), Failure> {
    let uri = format!("http://{}", args.balancer);
    let endpoint = Endpoint::from_shared(uri)
        .with_context(|| format!("`{}` is no address; write host:port", args.balancer))
        .map_err(Failure::Input)?;
    super::runtime()?.block_on(async {
        tokio::select! {
            watched = watch(args, &endpoint) => watched,
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    })
}

/// Opens a stream, and another when it ends, until enough has been seen.
async fn watch(args: &WatchArgs, endpoint: &Endpoint) -> Result<(), Failure> {
    let mut printer = Printer::new(args.json);
    let mut backoff = Backoff::default();
    loop {
        let ended = follow(args, endpoint, &mut printer, &mut backoff).await;
        let status = match ended {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        if matches!(status.code(), Code::NotFound | Code::InvalidArgument) {
            let refused = anyhow::anyhow!("{}", status.message());
            return Err(Failure::Run(refused.context("the balancer refuses")));
        }
        let pause = backoff.next_delay(&mut fastrand::Rng::new());
        eprintln!(
            "lookaside: stream to {} ended: {}; again in {:.1} s",
            args.balancer,
            describe(&status),
            pause.as_secs_f64()
        );
        tokio::time::sleep(pause).await;
    }
}

/// Follows one stream; `Ok` once enough lists have come.
async fn follow(
    args: &WatchArgs,
    endpoint: &Endpoint,
    printer: &mut Printer,
    backoff: &mut Backoff,
) -> Result<(), Status> {
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| Status::unavailable(format!("cannot connect: {}", root_cause(&error))))?;
    let hello = LoadBalanceRequest {
        load_balance_request_type: Some(LoadBalanceRequestType::InitialRequest(
            InitialLoadBalanceRequest {
                name: args.service.clone(),
            },
        )),
    };
    // The request stream stays open: a client that half-closes has left.
    let requests = tokio_stream::once(hello).chain(tokio_stream::pending());
    let mut client = LoadBalancerClient::new(channel);
    let mut responses = client.balance_load(requests).await?.into_inner();
    while let Some(response) = responses.message().await? {
        backoff.reset();
        if printer.print(response).is_err() {
            // Nobody reads stdout any more, as behind `| head`.
            return Ok(());
        }
        if args.count.is_some_and(|count| printer.lists >= count) {
            return Ok(());
        }
    }
    Err(Status::unavailable("the balancer closed the stream"))
}

fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Prints lists for a person or a program.
struct Printer {
    json: bool,
    lists: u64,
}

impl Printer {
    fn new(json: bool) -> Self {
        Self { json, lists: 0 }
    }

    fn print(&mut self, response: LoadBalanceResponse) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match response.load_balance_response_type {
            Some(LoadBalanceResponseType::InitialResponse(initial)) => {
                let interval = initial.client_stats_report_interval;
                let interval = interval
                    .as_ref()
                    .and_then(lookaside_proto::duration::from_proto);
                let seconds = interval.unwrap_or_default().as_secs_f64();
                if self.json {
                    writeln!(
                        out,
                        "{}",
                        json!({"connected": true, "report_interval_s": seconds})
                    )
                } else {
                    writeln!(out, "connected; statistics asked for every {seconds} s")
                }
            }
            Some(LoadBalanceResponseType::ServerList(list)) => {
                self.lists += 1;
                let tally = Tally::of(&list);
                if self.json {
                    tally.write_json(&mut out, self.lists)
                } else {
                    tally.write_table(&mut out, self.lists)
                }
            }
            Some(LoadBalanceResponseType::FallbackResponse(_)) => {
                self.lists += 1;
                if self.json {
                    writeln!(out, "{}", json!({"list": self.lists, "fallback": true}))
                } else {
                    let what = "no backend; clients use their fallback addresses";
                    writeln!(out, "list {}: {what}", self.lists)
                }
            }
            None => writeln!(out, "a response that this version does not know"),
        }?;
        out.flush()
    }
}

/// A list, counted.
struct Tally {
    entries: usize,
    backends: BTreeMap<String, usize>,
    drops: BTreeMap<String, usize>,
}

impl Tally {
    fn of(list: &ServerList) -> Self {
        let mut tally = Self {
            entries: list.servers.len(),
            backends: BTreeMap::new(),
            drops: BTreeMap::new(),
        };
        for server in &list.servers {
            if server.drop {
                let token = server.load_balance_token.as_str();
                let category = token.split('~').next().unwrap_or(token);
                *tally.drops.entry(category.to_owned()).or_default() += 1;
            } else {
                let name = match addr::socket_addr(server) {
                    Ok(addr) => addr.to_string(),
                    Err(error) => format!("bad entry: {error}"),
                };
                *tally.backends.entry(name).or_default() += 1;
            }
        }
        tally
    }

    fn share(&self, count: usize) -> f64 {
        count as f64 / self.entries.max(1) as f64
    }

    fn write_table(&self, out: &mut impl Write, number: u64) -> io::Result<()> {
        writeln!(
            out,
            "list {number}: {} entries, {} backends",
            self.entries,
            self.backends.len()
        )?;
        let drops = self
            .drops
            .iter()
            .map(|(category, n)| (format!("drop {category}"), n));
        let backends = self.backends.iter().map(|(addr, n)| (addr.clone(), n));
        for (what, count) in backends.chain(drops) {
            writeln!(
                out,
                "  {what:<28} {count:>5}  {:>6.2} %",
                self.share(*count) * 100.0
            )?;
        }
        Ok(())
    }

    fn write_json(&self, out: &mut impl Write, number: u64) -> io::Result<()> {
        let rows = |counts: &BTreeMap<String, usize>, key: &str| -> Vec<serde_json::Value> {
            let row = |(name, n): (&String, &usize)| json!({key: name, "entries": n, "share": self.share(*n)});
            counts.iter().map(row).collect()
        };
        let line = json!({
            "list": number,
            "entries": self.entries,
            "backends": rows(&self.backends, "address"),
            "drops": rows(&self.drops, "category"),
        });
        writeln!(out, "{line}")
    }
}
