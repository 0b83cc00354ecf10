//! A load balancing policy that weighs backends by the load that they report with each
//! answer: what gRPC calls `weighted_round_robin` (gRFC A58), in one file.
//!
//! ```sh
//! cargo run -p lookaside-examples --bin orca_policy
//! ```
//!
//! Backends put an ORCA report into the trailers of a call (`endpoint-load-metrics-bin`);
//! `lookaside_backend::Load` does it with `Trailers::Always`. The policy's `CallTracker`
//! reads it by `CallEnd::load_report`, and a backend's weight is what it does by how busy
//! that makes it: calls a second by utilization. The program starts two backends, one of
//! which is three times as busy by the same calls, and prints how calls are spread as the
//! weights become known.
//!
//! See `custom_policy` for what a policy consists of.

#![allow(clippy::print_stdout, reason = "its answers go to stdout")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use lookaside_backend::{Load, Trailers, Utilization};
use lookaside_client::Channel;
use lookaside_client::endpoint::Address;
use lookaside_client::policy::{
    BuildPicker, CallEnd, CallTracker, Pick, PickArgs, Picked, Picker, Ready, Spread,
};
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What a backend last said of itself: its weight, as the bits of a float; 0 before.
#[derive(Debug, Default)]
struct Reported(AtomicU64);

impl CallTracker for Reported {
    fn started(&self) {}

    fn finished(&self, end: CallEnd<'_>) {
        let Some(report) = end.load_report() else {
            return;
        };
        let utilization = match report.application_utilization {
            0.0 => report.cpu_utilization,
            own => own,
        };
        let weight = report.rps_fractional / utilization;
        if weight.is_normal() && weight > 0.0 {
            self.0.store(weight.to_bits(), Relaxed);
        }
    }
}

impl Reported {
    fn weight(&self) -> Option<f64> {
        let weight = f64::from_bits(self.0.load(Relaxed));
        (weight > 0.0).then_some(weight)
    }
}

#[derive(Debug)]
struct Backend {
    ready: Ready,
    reported: Arc<Reported>,
    /// The same, as a pick wants it.
    tracker: Arc<dyn CallTracker>,
}

/// Draws a backend by its weight. One that said nothing yet has the mean of the others.
#[derive(Debug)]
struct ByLoad(Vec<Backend>);

impl Picker for ByLoad {
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        let weights: Vec<_> = self.0.iter().map(|b| b.reported.weight()).collect();
        let known = weights.iter().flatten();
        let mean = match known.clone().count() {
            0 => 1.0,
            count => known.sum::<f64>() / count as f64,
        };
        let weights = || weights.iter().map(|weight| weight.unwrap_or(mean));
        let mut drawn = fastrand::f64() * weights().sum::<f64>();
        let place = weights().position(|weight| {
            drawn -= weight;
            drawn < 0.0
        });
        // Never empty: without a backend there is no picker of ours.
        let backend = &self.0[place.unwrap_or(0)];
        Pick::Complete(Picked {
            tracker: Some(&backend.tracker),
            ..backend.ready.picked()
        })
    }
}

/// Builds a picker whenever backends come, go, connect or fail.
#[derive(Debug, Default)]
struct ByLoadPickers(HashMap<Address, Arc<Reported>>);

impl BuildPicker for ByLoadPickers {
    type Picker = ByLoad;

    fn build(&mut self, ready: Vec<Ready>) -> ByLoad {
        let mut before = std::mem::take(&mut self.0);
        let backends = ready.into_iter().map(|ready| {
            let address = &ready.endpoint.address;
            let reported = self.0.entry(address.clone());
            let reported = reported.or_insert_with(|| before.remove(address).unwrap_or_default());
            let reported = Arc::clone(reported);
            Backend {
                tracker: Arc::clone(&reported) as Arc<dyn CallTracker>,
                reported,
                ready,
            }
        });
        ByLoad(backends.collect())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Ends the backends with the program.
    let mut backends = JoinSet::new();
    let mut addresses = vec![];
    for (name, limit) in [("large", 30.0), ("small", 10.0)] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?.to_string());
        let load = Load::builder(Utilization::InFlight { limit });
        let load = load.trailers(Trailers::Always).build();
        backends.spawn(
            tonic::transport::Server::builder()
                .layer(load.layer())
                .add_service(GreeterServer::new(Named(name)))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
    }
    let channel = Channel::builder(format!("static:{}", addresses.join(",")))
        .policy(|_| Box::new(Spread::with(ByLoadPickers::default())))
        .connect()
        .await?;
    for second in 1..=4 {
        let mut spread = BTreeMap::<String, u32>::new();
        for answers in JoinSet::from_iter((0..8).map(|_| call(channel.clone())))
            .join_all()
            .await
        {
            for name in answers? {
                *spread.entry(name).or_default() += 1;
            }
        }
        println!("second {second}: {spread:?}");
    }
    Ok(())
}

/// Calls for a second, one call after the other; returns who answered.
async fn call(channel: Channel) -> Result<Vec<String>, Status> {
    let mut greeter = GreeterClient::new(channel);
    let mut answers = vec![];
    for _ in 0..100 {
        let request = HelloRequest::default();
        answers.push(greeter.say_hello(request).await?.into_inner().message);
    }
    Ok(answers)
}

/// A backend whose calls take 10 ms.
struct Named(&'static str);

#[tonic::async_trait]
impl Greeter for Named {
    async fn say_hello(
        &self,
        _request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        sleep(Duration::from_millis(10)).await;
        Ok(Response::new(HelloReply {
            message: self.0.to_owned(),
        }))
    }
}
