//! A load balancing policy of one's own, in one file.
//!
//! ```sh
//! cargo run -p lookaside-examples --bin custom_policy
//! ```
//!
//! The policy is "the less busy of two": of two backends drawn at random an RPC
//! goes to the one with fewer RPCs under way, so that a backend that has become
//! slow gets fewer. The program starts three backends of its own, one of which is
//! twenty times slower than the others, calls them through `round_robin` and through
//! this policy, and prints how the calls were spread.
//!
//! A policy consists of up to three things:
//!
//! 1. a `Picker`, which every RPC asks where to go. It runs on the RPC's thread,
//!    is shared by all of them, and never waits;
//! 2. what builds it from the backends that have a connection, whenever they
//!    change. `Spread` does the rest: it connects to every address, makes RPCs
//!    wait while there is no connection yet, and fail once none can be had;
//! 3. a `CallTracker`, if the policy wants to know when RPCs end.

#![allow(clippy::print_stdout, reason = "its answers go to stdout")]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use lookaside_client::endpoint::Address;
use lookaside_client::policy::{
    BuildPicker, CallEnd, CallTracker, Pick, PickArgs, Picked, Picker, Ready, Spread,
};
use lookaside_client::{Builder, Channel};
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// How many RPCs a backend has under way. The channel calls it for every RPC that
/// a pick names it for, however that RPC ends.
#[derive(Debug, Default)]
struct InFlight(AtomicI64);

impl CallTracker for InFlight {
    fn started(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn finished(&self, _end: CallEnd<'_>) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A backend that can be picked.
#[derive(Debug)]
struct Backend {
    ready: Ready,
    in_flight: Arc<InFlight>,
    /// The same, as a pick wants it.
    tracker: Arc<dyn CallTracker>,
}

/// What RPCs ask where to go.
#[derive(Debug)]
struct LessBusyOfTwo(Vec<Backend>);

impl Picker for LessBusyOfTwo {
    // The arguments have the RPC's method and its headers, for policies that send
    // a user's RPCs to one backend, or writes elsewhere than reads.
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        // Never empty: without a backend there is no picker of ours.
        let backends = &self.0[..];
        let one = fastrand::usize(..backends.len());
        let other = match backends.len() {
            1 => one,
            // Another one.
            many => (one + fastrand::usize(1..many)) % many,
        };
        let (one, other) = (&backends[one], &backends[other]);
        let less_busy = match one.in_flight.0.load(Relaxed) <= other.in_flight.0.load(Relaxed) {
            true => one,
            false => other,
        };
        Pick::Complete(Picked {
            tracker: Some(&less_busy.tracker),
            ..less_busy.ready.picked()
        })
    }
}

/// Builds a picker whenever backends come, go, connect or fail.
#[derive(Debug, Default)]
struct LessBusyOfTwoPickers {
    /// RPCs under way outlive pickers, and so do their counts.
    in_flight: HashMap<Address, Arc<InFlight>>,
}

impl BuildPicker for LessBusyOfTwoPickers {
    type Picker = LessBusyOfTwo;

    fn build(&mut self, ready: Vec<Ready>) -> LessBusyOfTwo {
        let mut known = std::mem::take(&mut self.in_flight);
        let backends = ready.into_iter().map(|ready| {
            let address = &ready.endpoint.address;
            // An address that is listed twice is one backend.
            let counts = self.in_flight.entry(address.clone());
            let in_flight = counts.or_insert_with(|| known.remove(address).unwrap_or_default());
            let in_flight = Arc::clone(in_flight);
            Backend {
                tracker: Arc::clone(&in_flight) as Arc<dyn CallTracker>,
                in_flight,
                ready,
            }
        });
        LessBusyOfTwo(backends.collect())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Ends the backends with the program.
    let mut backends = JoinSet::new();
    let mut addresses = vec![];
    for (name, answers_after) in [("quick-1", 2), ("quick-2", 2), ("slow", 40)] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        let slow = Slow {
            name,
            answers_after: Duration::from_millis(answers_after),
        };
        backends.spawn(
            tonic::transport::Server::builder()
                .add_service(GreeterServer::new(slow))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
    }

    let target = target(&addresses);
    call("round_robin", Channel::builder(&target).round_robin()).await?;
    // The generator is for policies that want to be reproducible; ours is not.
    let own = |_rng| Box::new(Spread::with(LessBusyOfTwoPickers::default())) as _;
    call("less busy of two", Channel::builder(&target).policy(own)).await?;
    Ok(())
}

fn target(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    format!("static:{}", addresses.join(","))
}

/// Has ten callers make 60 calls each, and prints who answered.
async fn call(policy: &str, builder: Builder) -> anyhow::Result<()> {
    let channel = builder.connect().await?;
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let mut greeter = GreeterClient::new(channel.clone());
        callers.spawn(async move {
            let mut answers = vec![];
            for _ in 0..60 {
                let request = HelloRequest::default();
                answers.push(greeter.say_hello(request).await?.into_inner().message);
            }
            Ok::<_, Status>(answers)
        });
    }
    let mut spread = BTreeMap::<String, u32>::new();
    while let Some(answers) = callers.join_next().await {
        for name in answers?? {
            *spread.entry(name).or_default() += 1;
        }
    }
    println!("{policy}:");
    for (name, calls) in spread {
        println!("{calls:6}  {name}");
    }
    Ok(())
}

/// A backend that takes its time.
struct Slow {
    name: &'static str,
    answers_after: Duration,
}

#[tonic::async_trait]
impl Greeter for Slow {
    async fn say_hello(
        &self,
        _request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        sleep(self.answers_after).await;
        Ok(Response::new(HelloReply {
            message: self.name.to_owned(),
        }))
    }
}
