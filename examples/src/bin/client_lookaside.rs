//! A client that follows a lookaside balancer, with the stub that tonic generated.
//!
//! ```sh
//! # `lookaside demo` prints this line, with the address of its DNS:
//! cargo run -p lookaside-examples --bin client_lookaside -- \
//!     --dns 127.0.0.1:9053 greeter.lookaside.test:50051
//! # Where your DNS knows the balancer, the service's name is enough:
//! cargo run -p lookaside-examples --bin client_lookaside -- \
//!     --target dns:///greeter.example.com:50051
//! # Or the balancer is named:
//! cargo run -p lookaside-examples --bin client_lookaside -- --balancer 127.0.0.1:9000
//! ```
//!
//! It calls one after the other, `--count` times or for `--seconds`, and prints how
//! many calls each backend answered, with which tokens, and what the balancer said.
//! It exits with 1 if a call failed that the balancer did not want dropped.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its answers go to stdout, why there are none to stderr"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lookaside_client::{Channel, Error};
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tokio::time::Instant;

/// Calls a Greeter behind a balancer and prints which backends answered.
#[derive(Parser)]
struct Args {
    /// What to call, in place of SERVICE and --dns: dns:///host:port,
    /// dns://server:port/host:port or static:ip:port,…
    #[arg(long, conflicts_with_all = ["service", "dns"])]
    target: Option<String>,

    /// Name of the service, with the port of the addresses that it has in DNS.
    #[arg(default_value = "greeter.example.com:50051")]
    service: String,

    /// The DNS server that knows the balancer: lookaside's own, or one that asks it.
    #[arg(long, default_value = "127.0.0.1:9053")]
    dns: String,

    /// The balancer, host:port, instead of the one that DNS names.
    #[arg(long)]
    balancer: Option<String>,

    /// How many calls to make.
    #[arg(long, default_value_t = 100)]
    count: u64,

    /// For how long to call, instead of a number of times.
    #[arg(long, conflicts_with = "count")]
    seconds: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let target = match (&args.target, &args.balancer) {
        (Some(target), _) => target.clone(),
        // DNS has nothing to add.
        (None, Some(_)) => format!("dns:///{}", args.service),
        (None, None) => format!("dns://{}/{}", args.dns, args.service),
    };

    // This is all a program does differently from one with tonic's own channel.
    let mut builder = Channel::builder(&target);
    if let Some(balancer) = &args.balancer {
        builder = builder.balancer(balancer);
    }
    // Where DNS does not answer, this takes some seconds.
    let channel = match builder.connect().await {
        Ok(channel) => channel,
        // A target of one's own is not about the demo.
        Err(error @ Error::Connect(_)) if args.target.is_none() => {
            anyhow::bail!("{error}\n\n{}", advice(args.balancer.is_some()))
        }
        Err(error) => return Err(error.into()),
    };

    // The channel goes into any stub. It is cheap to clone, and clones share
    // connections and balancer.
    let mut greeter = GreeterClient::new(channel.clone());

    let mut tally = Tally::default();
    let end = args
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    while end.map_or(tally.calls < args.count, |end| Instant::now() < end) {
        tally.call(&mut greeter).await;
    }
    tally.print();

    let metrics = channel.metrics();
    println!(
        "balancer: {}, {} lists, {} calls dropped{}",
        match metrics.balancer.connected {
            true => "connected",
            false => "not connected",
        },
        metrics.balancer.lists,
        metrics.drops,
        match metrics.balancer.in_fallback {
            true => "; calls went to the fallback addresses",
            false => "",
        },
    );
    // A call that the balancer wants dropped fails, and is none of our failures.
    Ok(match tally.failed() == metrics.drops {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// How to try it where nobody answers.
fn advice(balancer: bool) -> String {
    let arguments = match balancer {
        true => "--balancer ADDRESS SERVICE",
        false => "--dns ADDRESS SERVICE",
    };
    format!(
        "To try it, start `cargo run --release -- demo` and give this program `{arguments}` as it \
         prints them; or start `lookaside serve` with a configuration like \
         examples/lookaside.toml, and the backends that stand there"
    )
}

/// What came of the calls.
#[derive(Default)]
struct Tally {
    calls: u64,
    answers: BTreeMap<String, Answers>,
    failures: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Answers {
    calls: u64,
    /// Tokens that the backend saw, if it tells.
    tokens: BTreeSet<String>,
}

impl Tally {
    async fn call(&mut self, greeter: &mut GreeterClient<Channel>) {
        self.calls += 1;
        let request = HelloRequest {
            name: "world".to_owned(),
        };
        match greeter.say_hello(request).await {
            Ok(reply) => {
                // The channel sends the token to the backend. The one of these
                // examples sends it back, for us to see.
                let token = reply.metadata().get("seen-lb-token");
                let token = token.and_then(|token| token.to_str().ok());
                let token = token.map(str::to_owned);
                let answers = self.answers.entry(reply.into_inner().message);
                let answers = answers.or_default();
                answers.calls += 1;
                answers.tokens.extend(token);
            }
            // A call that the balancer wants dropped fails as UNAVAILABLE, and so
            // does one when no backend can be reached: the message says which.
            Err(status) => {
                let failure = format!("{:?}: {}", status.code(), status.message());
                *self.failures.entry(failure).or_default() += 1;
            }
        }
    }

    fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    fn print(&self) {
        let share = |calls: u64| 100.0 * calls as f64 / self.calls.max(1) as f64;
        for (what, answers) in &self.answers {
            let calls = answers.calls;
            let tokens: Vec<_> = answers.tokens.iter().map(String::as_str).collect();
            let tokens = match tokens[..] {
                [] => String::new(),
                _ => format!("  lb-token {}", tokens.join(", ")),
            };
            println!("{calls:6}  {:5.1} %  {what}{tokens}", share(calls));
        }
        for (what, calls) in &self.failures {
            println!("{calls:6}  {:5.1} %  {what}", share(*calls));
        }
    }
}
