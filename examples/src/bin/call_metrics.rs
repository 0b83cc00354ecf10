//! Metrics of each call, for Prometheus.
//!
//! ```sh
//! cargo run -p lookaside-examples --bin call_metrics
//! ```
//!
//! The program starts two backends of its own, calls them, and prints what Prometheus
//! would scrape: `grpc_client_call_duration_seconds` by method, backend and status, with
//! gRPC's own names (gRFC A66).

#![allow(clippy::print_stdout, reason = "its answers go to stdout")]

use anyhow::Context as _;
use lookaside_client::{Channel, FinishedCall};
use lookaside_examples::{Backends, status_name};
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What calls are told apart by. There are as many as there are methods, backends and
/// codes; leave out the backend where thousands come and go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    grpc_method: String,
    backend: String,
    grpc_status: String,
}

/// From 1 ms to 16 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// What the channel calls at the end of each call.
fn note(durations: &Durations, call: &FinishedCall<'_>) {
    let labels = Labels {
        grpc_method: call.method.trim_start_matches('/').to_owned(),
        // A call that was not sent has none.
        backend: call.backend.map(ToString::to_string).unwrap_or_default(),
        grpc_status: status_name(call.code),
    };
    let latency = call.latency.as_secs_f64();
    durations.get_or_create(&labels).observe(latency);
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let durations = Durations::new_with_constructor(seconds);
    let mut registry = Registry::default();
    registry.register_with_unit(
        "grpc_client_call_duration",
        "Time from a call to the end of its response",
        Unit::Seconds,
        durations.clone(),
    );

    let mut backends = Backends::default();
    let (blue, green) = (
        backends.start("blue").await?,
        backends.start("green").await?,
    );
    let channel = Channel::builder(format!("static:{blue},{green}"))
        .round_robin()
        .on_call_end(move |call| note(&durations, call))
        .connect()
        .await?;
    let mut greeter = GreeterClient::new(channel);
    for _ in 0..20 {
        let request = HelloRequest::default();
        greeter.say_hello(request).await.context("a call failed")?;
    }

    let mut text = String::new();
    encode(&mut text, &registry)?;
    print!("{text}");
    Ok(())
}
