//! Addresses from a source of one's own: the `example` scheme of gRPC's name
//! resolution tutorials.
//!
//! ```sh
//! cargo run -p lookaside-examples --bin custom_resolver
//! ```
//!
//! A table says which backends `lb.example.grpc.io` has. The program starts two
//! backends on loopback, calls the first, moves the name to the second while calls
//! go on, and prints who answered. A real source would be a database, a file, or
//! what your platform has: whenever it learns something, it yields all it knows.

#![allow(clippy::print_stdout, reason = "its answers go to stdout")]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::ensure;
use lookaside_client::endpoint::Endpoint;
use lookaside_client::resolve::{Reresolve, Resolution, ResolutionStream, Resolve};
use lookaside_client::{Channel, ResolveError};
use lookaside_examples::Backends;
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;

const SCHEME: &str = "example";
const NAME: &str = "lb.example.grpc.io";

/// What a name stands for, as it changes.
type Table = HashMap<&'static str, watch::Receiver<Vec<SocketAddr>>>;

/// Looks names up in a table.
struct ExampleResolver {
    table: Arc<Table>,
    name: String,
}

impl Resolve for ExampleResolver {
    /// The channel calls this when it starts, and again when it was idle. It drops
    /// the stream when it has no more use for it.
    fn resolve(&mut self, _reresolve: Reresolve) -> ResolutionStream {
        // A source that does not tell of changes would look again whenever
        // `reresolve.requested()` returns, but not too often.
        match self.table.get(&*self.name) {
            Some(addresses) => {
                let changes = WatchStream::new(addresses.clone());
                Box::pin(changes.map(|addresses| {
                    let endpoints: Vec<_> = addresses.into_iter().map(Endpoint::from).collect();
                    Ok(Resolution::from(endpoints))
                }))
            }
            // RPCs fail with this text. Had there been addresses before, they
            // would stay in use.
            None => {
                let error = ResolveError(format!("{} is not in the table", self.name));
                Box::pin(tokio_stream::once(Err(error)))
            }
        }
    }
}

/// A channel to `target`: of the scheme above by the table, of gRPC's schemes as
/// always.
async fn connect(target: &str, table: &Arc<Table>) -> Result<Channel, lookaside_client::Error> {
    let builder = Channel::builder(target).round_robin();
    let builder = match target.split_once(":///") {
        Some((SCHEME, name)) => builder.resolver(ExampleResolver {
            table: Arc::clone(table),
            name: name.to_owned(),
        }),
        _ => builder,
    };
    builder.connect().await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut backends = Backends::default();
    let blue = backends.start("blue").await?;
    let green = backends.start("green").await?;
    let (addresses, known) = watch::channel(vec![blue]);
    let table = Arc::new(Table::from([(NAME, known)]));

    let channel = connect(&format!("{SCHEME}:///{NAME}"), &table).await?;
    let mut greeter = GreeterClient::new(channel);
    let answers = call(&mut greeter, 10).await?;
    println!("{NAME} is {blue}: 10 calls answered by {answers:?}");
    ensure!(answers.keys().eq(["blue"]), "only blue is in the table");

    addresses.send_replace(vec![green]);
    // Calls go on meanwhile: blue serves until green is connected.
    let mut calls = 0;
    while !call(&mut greeter, 1).await?.contains_key("green") {
        calls += 1;
    }
    println!("{NAME} is {green} now: green answered after {calls} more calls of blue");
    let answers = call(&mut greeter, 10).await?;
    println!("10 calls answered by {answers:?}");
    ensure!(answers.keys().eq(["green"]), "only green is in the table");

    match connect(&format!("{SCHEME}:///nowhere"), &table).await {
        Err(error) => println!("{SCHEME}:///nowhere: {error}"),
        Ok(_) => anyhow::bail!("nowhere is not in the table"),
    }
    Ok(())
}

/// Makes calls, one after the other; how many each backend answered.
async fn call(
    greeter: &mut GreeterClient<Channel>,
    count: u32,
) -> anyhow::Result<BTreeMap<String, u32>> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let reply = greeter.say_hello(HelloRequest::default()).await?;
        *answers.entry(reply.into_inner().message).or_default() += 1;
    }
    Ok(answers)
}
