//! Metrics of each call, for OpenTelemetry.
//!
//! ```sh
//! cargo run -p lookaside-examples --bin call_metrics_otel
//! ```
//!
//! The hook needs no more than the API crate. Where measurements go is for the
//! `MeterProvider` that your program sets (`opentelemetry_sdk`, an OTLP exporter); this
//! one sets none, and so they go nowhere. Names are gRPC's own (gRFC A66).

#![allow(clippy::print_stdout, reason = "its answers go to stdout")]

use anyhow::Context as _;
use lookaside_client::Channel;
use lookaside_examples::{Backends, status_name};
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use opentelemetry::{KeyValue, global};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Behind global::set_meter_provider.
    let durations = global::meter("greeter")
        .f64_histogram("grpc.client.call.duration")
        .with_unit("s")
        .with_description("Time from a call to the end of its response")
        .build();

    let mut backends = Backends::default();
    let target = format!("static:{}", backends.start("blue").await?);
    let named = target.clone();
    let channel = Channel::builder(&target)
        .on_call_end(move |call| {
            let attributes = [
                KeyValue::new("grpc.target", named.clone()),
                KeyValue::new(
                    "grpc.method",
                    call.method.trim_start_matches('/').to_owned(),
                ),
                KeyValue::new("grpc.status", status_name(call.code)),
            ];
            durations.record(call.latency.as_secs_f64(), &attributes);
        })
        .connect()
        .await?;
    let mut greeter = GreeterClient::new(channel);
    for _ in 0..20 {
        let request = HelloRequest::default();
        greeter.say_hello(request).await.context("a call failed")?;
    }
    println!("measured 20 calls to {target}");
    Ok(())
}
