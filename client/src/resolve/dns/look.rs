//! One look at all that DNS knows of a service, and the next ones.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::super::schedule::LookupSchedule;
use super::super::{Balancers, Reresolve, Resolution};
use super::answers::{Answers, ConfigFault, LastGood};
use super::balancers::{SrvBalancers, find};
use super::records::{Records, shorter};
use super::server_choice::ServerChoice;
use super::srv::SrvTarget;
use crate::endpoint::Endpoint;
use crate::error::ResolveError;
use crate::service_config::ServiceConfig;
use crate::until::until;

/// Longest time of a look, as in Go; what is not answered by then has failed.
pub(in super::super) const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long addresses wait for word of a balancer: whether there is one, and, if
/// there is, where. A service that has a balancer is not called past it.
const SRV_PATIENCE: Duration = Duration::from_millis(500);
const BALANCER_PATIENCE: Duration = Duration::from_secs(10);
/// The prefix under which gRFC A5 looks for balancers.
const SRV_PREFIX: &str = "_grpclb._tcp.";
/// The prefix under which gRFC A2 looks for service configs.
const TXT_PREFIX: &str = "_grpc_config.";

/// What a look needs of a DNS client. No records are an empty list, not an error.
pub(super) trait Lookup: Send + Sync + 'static {
    /// Whom it asks.
    fn asked(&self) -> ServerChoice;

    /// A and AAAA of `host`.
    fn ips(&self, host: &str)
    -> impl Future<Output = Result<Records<IpAddr>, ResolveError>> + Send;

    /// SRV of `name`.
    fn srv(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Records<SrvTarget>, ResolveError>> + Send;

    /// TXT of `name`.
    fn txt(&self, name: &str) -> impl Future<Output = Result<Vec<Vec<u8>>, ResolveError>> + Send;
}

/// Looks at a service in DNS, again and again.
pub(super) struct Looks<L> {
    pub(super) lookup: L,
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether to look for balancers.
    pub(super) srv: bool,
    /// As whom to look for a service config, if at all.
    pub(super) txt: Option<Client>,
    /// Whether to look again when what was found is no longer good, at the latest
    /// after 30 s, and not only on request.
    pub(super) by_ttl: bool,
    pub(super) rng: fastrand::Rng,
}

/// Who this is, for a choice among service configs.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) hostname: String,
    /// Leads to the same draws in each look: a client keeps its place.
    pub(super) seed: u64,
}

impl<L: Lookup> Looks<L> {
    /// Runs until nobody takes the results.
    pub(super) async fn run(
        mut self,
        reresolve: Reresolve,
        results: mpsc::Sender<Result<Resolution, ResolveError>>,
    ) {
        let mut pace = LookupSchedule::new(self.rng.fork());
        let mut teller = Teller {
            results,
            last: None,
        };
        let mut known = LastGood::default();
        loop {
            pace.begin();
            let Ok((good, ttl)) = self.look(&mut known, &mut teller).await else {
                return;
            };
            match self.by_ttl {
                true => pace.pause_for(ttl, good, &reresolve).await,
                false => pace.pause(good, &reresolve).await,
            }
        }
    }

    /// One look: passes on what there is as soon as it is there. Says whether all
    /// was answered, and for how long that holds.
    async fn look(
        &mut self,
        known: &mut LastGood,
        teller: &mut Teller,
    ) -> Result<(bool, Option<Duration>), Closed> {
        let began = Instant::now();
        let deadline = began + LOOK_TIMEOUT;
        let asked = self.lookup.asked();
        tracing::debug!(host = self.host, %asked, "looking in DNS");
        let rng = self.rng.fork();
        let (some, mut somes) = mpsc::channel(1);
        let mut addresses = std::pin::pin!(self.lookup.ips(&self.host));
        let srv = self.srv.then(|| {
            let name = format!("{SRV_PREFIX}{}", self.host);
            find(&self.lookup, name, rng, some)
        });
        let mut balancers = std::pin::pin!(OptionFuture::from(srv));
        let txt = self.txt.as_ref().map(|client| self.config(client));
        let mut config = std::pin::pin!(OptionFuture::from(txt));
        let mut answers = Answers {
            asked,
            ttl: None,
            addresses: None,
            balancers: (!self.srv).then(|| Ok(SrvBalancers::default())),
            named: false,
            some_balancers: vec![],
            config: self.txt.is_none().then_some(Ok(None)),
        };
        while !answers.are_complete() {
            // Once something has been told, RPCs go by it, and nobody waits.
            let first = teller.last.is_none();
            let held = answers.waits_for(SRV_PATIENCE, BALANCER_PATIENCE);
            let held = held.filter(|_| first).map(|patience| began + patience);
            let held = held.filter(|until| *until > Instant::now());
            tokio::select! {
                ips = &mut addresses, if answers.addresses.is_none() => {
                    answers.addresses = Some(ips.map(|ips| {
                        answers.ttl = shorter(answers.ttl, ips.ttl);
                        self.endpoints(ips.list)
                    }));
                }
                Some(found) = &mut balancers, if answers.balancers.is_none() => {
                    if let Ok(found) = &found {
                        answers.ttl = shorter(answers.ttl, found.ttl);
                    }
                    answers.balancers = Some(found);
                }
                Some(some) = somes.recv() => {
                    answers.named = true;
                    answers.some_balancers = some;
                }
                Some(found) = &mut config, if answers.config.is_none() => {
                    answers.config = Some(found);
                }
                () = sleep_until(deadline) => answers.give_up(&self.host, LOOK_TIMEOUT),
                () = until(held) => {}
            }
            let waits = answers.waits_for(SRV_PATIENCE, BALANCER_PATIENCE);
            let held = first && waits.is_some_and(|patience| began.elapsed() < patience);
            if answers.say_something() && !held {
                teller.tell(known.learn(&answers, &self.host)).await?;
            }
        }
        let told_failure = matches!(teller.last, Some(Err(_)));
        known.log(&answers, &self.host, told_failure);
        let good = !told_failure && answers.are_good();
        tracing::debug!(host = self.host, %asked, good, took = ?began.elapsed(), "looked in DNS");
        Ok((good, answers.ttl))
    }

    fn endpoints(&self, ips: Vec<IpAddr>) -> Vec<Endpoint> {
        let endpoint = |ip| Endpoint::new(SocketAddr::new(ip, self.port));
        ips.into_iter().map(endpoint).collect()
    }

    async fn config(&self, client: &Client) -> Result<Option<ServiceConfig>, ConfigFault> {
        let name = format!("{TXT_PREFIX}{}", self.host);
        let records = self.lookup.txt(&name).await;
        let records = records.map_err(|error| ConfigFault::Unanswered(error.0))?;
        let mut rng = fastrand::Rng::with_seed(client.seed);
        ServiceConfig::from_txt(records, &client.hostname, &mut rng)
            .map_err(|error| ConfigFault::Malformed(format!("TXT {name}: {error}")))
    }
}

/// The channel dropped the stream of results.
struct Closed;

/// Tells each result that is news beside the last one.
struct Teller {
    results: mpsc::Sender<Result<Resolution, ResolveError>>,
    last: Option<Result<Resolution, ResolveError>>,
}

impl Teller {
    async fn tell(&mut self, result: Result<Resolution, ResolveError>) -> Result<(), Closed> {
        let old = match (&self.last, &result) {
            (Some(Ok(last)), Ok(result)) => is_old(result, last),
            (Some(last), result) => last == result,
            (None, _) => false,
        };
        if old {
            return Ok(());
        }
        self.last = Some(result.clone());
        self.results.send(result).await.map_err(|_| Closed)
    }
}

/// Whether `result`, perhaps of a look that goes on, says no more than `last`.
fn is_old(result: &Resolution, last: &Resolution) -> bool {
    let unknown = result.pending && result.balancers == Balancers::Unknown;
    result.endpoints == last.endpoints
        && result.service_config == last.service_config
        && (result.balancers == last.balancers || unknown)
        && (result.pending || !last.pending)
}
