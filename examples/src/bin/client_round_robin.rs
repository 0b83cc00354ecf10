//! A client without a balancer: calls take turns over the addresses of a target.
//!
//! ```sh
//! # Three backends of its own, one of which ends on the way:
//! cargo run -p lookaside-examples --bin client_round_robin
//! # Yours, by name or by address:
//! cargo run -p lookaside-examples --bin client_round_robin -- --target dns:///localhost:50051
//! cargo run -p lookaside-examples --bin client_round_robin -- \
//!     --target static:127.0.0.1:50051,127.0.0.1:50052
//! ```
//!
//! It prints how many calls each backend answered, and exits with 1 if one failed.

#![allow(clippy::print_stdout, reason = "its answers go to stdout")]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use clap::Parser;
use lookaside_client::Channel;
use lookaside_examples::Backends;
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;

/// Calls Greeters in turn and prints which answered.
#[derive(Parser)]
struct Args {
    /// What to call: dns:///host:port or static:ip:port,ip:port (IPv6 in brackets); three
    /// backends of its own if not given.
    #[arg(long)]
    target: Option<String>,

    /// How many calls to make.
    #[arg(long, default_value_t = 90)]
    count: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match &args.target {
        Some(target) => {
            let mut greeter = connect(target).await?;
            call(&mut greeter, args.count).await
        }
        None => with_own_backends(args.count).await,
    }
}

async fn with_own_backends(count: u32) -> anyhow::Result<()> {
    let mut backends = Backends::default();
    let mut addresses = vec![];
    let names = ["blue", "green", "red"];
    for name in names {
        addresses.push(backends.start(name).await?.to_string());
    }
    let target = format!("static:{}", addresses.join(","));
    let mut greeter = connect(&target).await?;
    // There is one connection now; the others follow.
    let mut missing = BTreeSet::from(names);
    while !missing.is_empty() {
        let reply = greeter.say_hello(HelloRequest::default()).await?;
        missing.remove(&*reply.into_inner().message);
    }
    println!("{count} calls to {target}:");
    call(&mut greeter, count).await?;

    // No call fails of it: the channel knows that the connection has ended, and
    // leaves red out until it is back.
    backends.stop("red").await;
    println!("{count} calls after red has ended:");
    call(&mut greeter, count).await
}

async fn connect(target: &str) -> anyhow::Result<GreeterClient<Channel>> {
    // All a program does differently from one with tonic's own channel.
    let channel = Channel::builder(target).round_robin().connect().await;
    let channel = channel.with_context(|| format!("cannot reach {target}; is a backend there?"))?;
    Ok(GreeterClient::new(channel))
}

async fn call(greeter: &mut GreeterClient<Channel>, count: u32) -> anyhow::Result<()> {
    let mut answers = BTreeMap::<String, u32>::new();
    for _ in 0..count {
        let request = HelloRequest {
            name: "world".to_owned(),
        };
        let reply = greeter.say_hello(request).await.context("a call failed")?;
        *answers.entry(reply.into_inner().message).or_default() += 1;
    }
    for (what, calls) in answers {
        let share = 100.0 * f64::from(calls) / f64::from(count.max(1));
        println!("{calls:6}  {share:5.1} %  {what}");
    }
    Ok(())
}
