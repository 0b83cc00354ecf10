//! A client that follows a lookaside balancer, with the stub that tonic generated.
//!
//! ```sh
//! # The balancer is found in DNS, here in the balancer's own:
//! cargo run -p lookaside-examples --bin client -- \
//!     --target dns://127.0.0.1:9053/greeter.example.com:50051
//! # Or it is named:
//! cargo run -p lookaside-examples --bin client -- \
//!     --target dns:///greeter.example.com --balancer 127.0.0.1:9000
//! # Or there is none, and calls take turns over addresses:
//! cargo run -p lookaside-examples --bin client -- \
//!     --target static:127.0.0.1:50051,127.0.0.1:50052
//! ```
//!
//! It makes `--count` calls, one after the other, and prints how many each backend
//! answered. It exits with 1 if a call failed.

#![allow(clippy::print_stdout, reason = "its answers go to stdout")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;
use lookaside_client::Channel;
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;

/// Calls a Greeter and prints which backends answered.
#[derive(Parser)]
struct Args {
    /// What to call: dns:///host:port, dns://server:port/host:port or
    /// static:ip:port,…
    #[arg(long)]
    target: String,

    /// The balancer, host:port, instead of the one that DNS names.
    #[arg(long)]
    balancer: Option<String>,

    /// How many calls to make.
    #[arg(long, default_value_t = 100)]
    count: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();

    // This is all a program does differently from one with tonic's own channel.
    // round_robin applies where there is no balancer.
    let mut builder = Channel::builder(args.target).round_robin();
    if let Some(balancer) = args.balancer {
        builder = builder.balancer(balancer);
    }
    let channel = builder.connect().await?;

    // The channel goes into any stub. It is cheap to clone, and clones share
    // connections and balancer.
    let mut greeter = GreeterClient::new(channel);

    let mut answers = BTreeMap::<String, u32>::new();
    let mut failures = BTreeMap::<String, u32>::new();
    for _ in 0..args.count {
        let request = HelloRequest {
            name: "world".to_owned(),
        };
        match greeter.say_hello(request).await {
            Ok(reply) => *answers.entry(reply.into_inner().message).or_default() += 1,
            // A call that the balancer wants dropped fails as UNAVAILABLE, and so
            // does one when no backend can be reached: the message says which.
            Err(status) => {
                let failure = format!("{:?}: {}", status.code(), status.message());
                *failures.entry(failure).or_default() += 1;
            }
        }
    }

    for (what, calls) in answers.iter().chain(&failures) {
        let share = 100.0 * f64::from(*calls) / f64::from(args.count.max(1));
        println!("{calls:6}  {share:5.1} %  {what}");
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
