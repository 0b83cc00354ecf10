//! A load balancing policy of one's own, in one file.
//!
//! ```sh
//! cargo run -p lookaside-examples --bin custom_policy
//! ```
//!
//! The policy is "the quicker of two": of two backends drawn at random an RPC goes to
//! the one where it is likely to wait less, by the moving average (EWMA) of how long
//! RPCs took there times those under way, so that a backend that has become slow or
//! fails gets fewer. The program starts three backends of its own, one of which is
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
//! 3. a `CallTracker`, if the policy wants to know when RPCs end, and how: with which
//!    code, after which time, and with which trailers. Backends can report their load
//!    in those (ORCA): `orca_policy` goes by that.

#![allow(clippy::print_stdout, reason = "its answers go to stdout")]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
use tonic::{Code, Request, Response, Status};

/// What RPCs to a backend have been like. The channel calls it for every RPC that a pick
/// names it for, however that RPC ends.
#[derive(Debug, Default)]
struct Experience {
    under_way: AtomicU64,
    /// Moving average of how long RPCs took, in microseconds.
    micros: AtomicU64,
}

/// What an RPC that a backend fails counts for: failing fast must not pay.
const FAILURE: Duration = Duration::from_secs(1);

impl CallTracker for Experience {
    fn started(&self) {
        self.under_way.fetch_add(1, Relaxed);
    }

    fn finished(&self, end: CallEnd<'_>) {
        self.under_way.fetch_sub(1, Relaxed);
        let took = match end.code {
            // The application let go of it, which says nothing.
            Code::Cancelled => return,
            Code::Unavailable | Code::ResourceExhausted | Code::Internal => FAILURE,
            _ => end.elapsed,
        };
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 8);
        // Two at once may lose one of them, which an average can do without.
        let before = self.micros.load(Relaxed);
        let average = match before {
            0 => took,
            _ => before - before / 8 + took / 8,
        };
        self.micros.store(average, Relaxed);
    }

    // Has `elapsed` measured.
    fn timed(&self) -> bool {
        true
    }
}

impl Experience {
    /// How long one more RPC is likely to take.
    fn wait(&self) -> u64 {
        let many = self.under_way.load(Relaxed).saturating_add(1);
        self.micros.load(Relaxed).saturating_mul(many)
    }
}

/// A backend that can be picked.
#[derive(Debug)]
struct Backend {
    ready: Ready,
    experience: Arc<Experience>,
    /// The same, as a pick wants it.
    tracker: Arc<dyn CallTracker>,
}

/// What RPCs ask where to go.
#[derive(Debug)]
struct QuickerOfTwo(Vec<Backend>);

impl Picker for QuickerOfTwo {
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
        let quicker = match one.experience.wait() <= other.experience.wait() {
            true => one,
            false => other,
        };
        Pick::Complete(Picked {
            tracker: Some(&quicker.tracker),
            ..quicker.ready.picked()
        })
    }
}

/// Builds a picker whenever backends come, go, connect or fail.
#[derive(Debug, Default)]
struct QuickerOfTwoPickers {
    /// RPCs under way outlive pickers, and so does what is known.
    experience: HashMap<Address, Arc<Experience>>,
}

impl BuildPicker for QuickerOfTwoPickers {
    type Picker = QuickerOfTwo;

    fn build(&mut self, ready: Vec<Ready>) -> QuickerOfTwo {
        let mut known = std::mem::take(&mut self.experience);
        let backends = ready.into_iter().map(|ready| {
            let address = &ready.endpoint.address;
            // An address that is listed twice is one backend.
            let counts = self.experience.entry(address.clone());
            let experience = counts.or_insert_with(|| known.remove(address).unwrap_or_default());
            let experience = Arc::clone(experience);
            Backend {
                tracker: Arc::clone(&experience) as Arc<dyn CallTracker>,
                experience,
                ready,
            }
        });
        QuickerOfTwo(backends.collect())
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
    let own = |_rng| Box::new(Spread::with(QuickerOfTwoPickers::default())) as _;
    call("quicker of two", Channel::builder(&target).policy(own)).await?;
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
