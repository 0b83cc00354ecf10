//! Clients of the balancer that note who is listed: one process, each client with a
//! connection and a `BalanceLoad` stream of its own.
//!
//! | line in | line out |
//! |---|---|
//! | `gone PORT` | `gone TIME`, once no client's newest list has a backend of that port; when the last client got such a list |
//! | `listed PORT` | `listed TIME`, once all clients' newest lists have it |
//!
//! Times are as [`crate::clock::now`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use lookaside_proto::lb_v1::{InitialLoadBalanceRequest, LoadBalanceRequest};
use tokio::task::JoinSet;
use tokio_stream::{StreamExt as _, once, pending};
use tonic::transport::Endpoint;

use crate::backends::SERVICE;
use crate::child::say;
use crate::clock;

/// Pause before a client that lost its stream comes back.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct WatchersArgs {
    /// How many clients.
    #[arg(long)]
    clients: usize,
    /// The balancer.
    #[arg(long)]
    balancer: SocketAddr,
}

/// What the clients know.
#[derive(Debug)]
struct Known {
    clients: Vec<Client>,
    question: Option<Question>,
}

/// What one client knows: the ports of its list, and since when each port is in it,
/// or is no more.
#[derive(Debug, Clone, Default)]
struct Client {
    listed: BTreeSet<u16>,
    since: BTreeMap<u16, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    port: u16,
    listed: bool,
}

/// Watches until stdin ends.
pub(crate) fn run(args: &WatchersArgs) -> Result<()> {
    ensure!(args.clients > 0, "nobody watches");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let known = Arc::new(Mutex::new(Known {
        clients: vec![Client::default(); args.clients],
        question: None,
    }));
    // The set ends with the runtime, and the runtime with this function.
    let mut tasks = JoinSet::new();
    for index in 0..args.clients {
        let (balancer, known) = (args.balancer, Arc::clone(&known));
        let watch = async move {
            loop {
                if let Err(error) = watch(balancer, index, &known).await {
                    eprintln!("client {index} lost its balancer: {error:#}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tasks.spawn_on(watch, runtime.handle());
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (word, port) = line.split_once(' ').unwrap_or((&line, ""));
        let listed = match word {
            "gone" => false,
            "listed" => true,
            _ => bail!("the clients do not understand `{line}`"),
        };
        let port = port.parse().with_context(|| line.clone())?;
        let mut known = lock(&known);
        known.question = Some(Question { port, listed });
        known.answer()?;
    }
    Ok(())
}

/// One stream, until it ends.
async fn watch(balancer: SocketAddr, index: usize, known: &Mutex<Known>) -> Result<()> {
    let endpoint = Endpoint::from_shared(format!("http://{balancer}"))?.tcp_nodelay(true);
    let mut client = LoadBalancerClient::new(endpoint.connect().await?);
    let request = InitialLoadBalanceRequest {
        name: SERVICE.to_owned(),
    };
    let request = once(LoadBalanceRequest {
        load_balance_request_type: Some(LoadBalanceRequestType::InitialRequest(request)),
    });
    let stream = client.balance_load(request.chain(pending())).await?;
    let mut responses = stream.into_inner();
    while let Some(response) = responses.message().await? {
        let now = clock::now();
        let listed = match response.load_balance_response_type {
            Some(LoadBalanceResponseType::ServerList(list)) => {
                let ports = list.servers.iter().filter(|server| !server.drop);
                ports
                    .filter_map(|server| u16::try_from(server.port).ok())
                    .collect()
            }
            Some(LoadBalanceResponseType::FallbackResponse(_)) => BTreeSet::new(),
            _ => continue,
        };
        let mut known = lock(known);
        known.clients[index].follow(listed, now);
        known.answer()?;
    }
    bail!("the stream ended")
}

impl Client {
    fn follow(&mut self, listed: BTreeSet<u16>, now: u64) {
        for port in self.listed.symmetric_difference(&listed) {
            self.since.insert(*port, now);
        }
        self.listed = listed;
    }

    /// Since when the port is listed, or is not. None if it is otherwise.
    fn since(&self, question: Question) -> Option<u64> {
        let so = self.listed.contains(&question.port) == question.listed;
        so.then(|| self.since.get(&question.port).copied())
            .flatten()
    }
}

impl Known {
    /// Answers what was asked, if it is so by now.
    fn answer(&mut self) -> Result<()> {
        let Some(question) = self.question else {
            return Ok(());
        };
        let times = self.clients.iter().map(|client| client.since(question));
        if let Some(times) = times.collect::<Option<Vec<u64>>>() {
            self.question = None;
            let last = times.into_iter().max().unwrap_or_default();
            let word = if question.listed { "listed" } else { "gone" };
            say(format_args!("{word} {last}"))?;
        }
        Ok(())
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_gone_since_the_list_that_did_not_have_it() {
        let mut client = Client::default();
        let question = |listed| Question { port: 2, listed };
        assert_eq!(client.since(question(false)), None);
        client.follow(BTreeSet::from([1, 2]), 10);
        client.follow(BTreeSet::from([2, 3]), 20);
        assert_eq!(client.since(question(true)), Some(10));
        assert_eq!(client.since(question(false)), None);
        client.follow(BTreeSet::from([3]), 30);
        client.follow(BTreeSet::from([3, 4]), 40);
        assert_eq!(client.since(question(false)), Some(30));
    }
}
