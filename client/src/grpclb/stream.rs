//! The stream to the balancer: `BalanceLoad`, opened, read, reported on, and
//! opened again, for as long as the channel lives.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{self, Either};
use http::HeaderValue;
use http::uri::{Authority, Uri};
use lookaside_proto::duration::from_proto;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType as Request;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType as Response;
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use lookaside_proto::lb_v1::{InitialLoadBalanceRequest, LoadBalanceRequest, Server};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::Code;

use super::reports::Reports;
use super::stats::StreamStats;
use crate::backoff::{Backoff, jittered};
use crate::endpoint::Address;
use crate::metrics::Metrics;
use crate::resolve::BalancerAddress;
use crate::subchannel::{ConnectOptions, Connection, Driver, Ending, connect};

/// Least time between the starts of two streams, ±20 %. The official clients
/// reopen a stream at once whenever it got as far as the handshake, which makes
/// 1500 streams a second against a balancer that ends them all.
const FLOOR: Duration = Duration::from_secs(1);
/// A stream that lasted is reopened after up to this, at random: its fellows
/// were cut off in the same moment.
const SPREAD: Duration = Duration::from_millis(250);

/// What the stream tells the policy.
#[derive(Debug)]
pub(super) enum Event {
    /// A list, and what to count its calls with.
    List(Vec<Server>, Arc<StreamStats>),
    /// The balancer wants us to use the fallback addresses.
    Fallback,
    /// There is no stream. Another attempt will follow.
    Lost(String),
    /// The stream was given up for one that asks for another service.
    Renamed,
}

/// Whom to ask, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// Name of the service, as the balancer is to know it.
    pub(super) name: String,
    /// The balancers, in the order to try them.
    pub(super) balancers: Vec<BalancerAddress>,
}

/// What the stream needs to know.
#[derive(Debug, Clone)]
pub(super) struct StreamConfig {
    pub(super) user_agent: HeaderValue,
    pub(super) connect: ConnectOptions,
    pub(super) report: bool,
    pub(super) metrics: Arc<Metrics>,
}

/// Keeps a stream open to one of the service's balancers. Ends when nobody takes
/// its events.
pub(super) async fn run(
    config: StreamConfig,
    mut service: watch::Receiver<Service>,
    events: mpsc::Sender<Event>,
    mut rng: fastrand::Rng,
) {
    let tasks = TaskTracker::new();
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        let known = service.borrow_and_update().balancers.clone();
        match open(&known, &config, &tasks).await {
            Ok((balancer, connection, mut driver)) => {
                let session = Session {
                    config: &config,
                    events: &events,
                    balancer: &balancer,
                    connection,
                };
                if session
                    .run(&mut driver, &mut service, &mut backoff, &mut rng)
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Err(reason) => {
                config
                    .metrics
                    .failed_balancer_connects
                    .fetch_add(1, Relaxed);
                if events.send(Event::Lost(reason)).await.is_err() {
                    return;
                }
                let again = started + backoff.next_delay(&mut rng);
                wait(again, &mut service).await;
            }
        }
    }
}

/// Waits until `again`, or until there are other balancers to try.
async fn wait(again: Instant, service: &mut watch::Receiver<Service>) {
    tokio::select! {
        () = sleep_until(again) => {}
        Ok(()) = service.changed() => {}
    }
}

/// Waits until `service` has another name than `name`.
async fn renamed(service: &mut watch::Receiver<Service>, name: &str) {
    if service.wait_for(|now| now.name != name).await.is_err() {
        // The policy is gone, and ends this task next.
        std::future::pending().await
    }
}

/// A connection to the first balancer that takes one.
async fn open(
    addresses: &[BalancerAddress],
    config: &StreamConfig,
    tasks: &TaskTracker,
) -> Result<(BalancerAddress, Connection, Driver), String> {
    let mut reasons = vec![];
    for balancer in addresses {
        let address = Address::from(balancer.addr);
        let options = config.connect.to(&balancer.authority);
        match connect(&address, &options, tasks).await {
            Ok((connection, driver)) => return Ok((balancer.clone(), connection, driver)),
            Err(reason) => reasons.push(reason.to_string()),
        }
    }
    if reasons.is_empty() {
        return Err("no balancer is known".to_owned());
    }
    Err(format!(
        "no balancer can be reached; {}",
        reasons.join("; ")
    ))
}

/// Nobody takes events any more.
struct Closed;

/// How a stream came to its end.
enum End {
    Stream(String),
    Connection(String),
    Renamed,
}

/// One connection to a balancer, and the streams over it.
struct Session<'a> {
    config: &'a StreamConfig,
    events: &'a mpsc::Sender<Event>,
    balancer: &'a BalancerAddress,
    connection: Connection,
}

impl Session<'_> {
    /// Opens one stream after the other until the connection ends, or the
    /// balancer is no longer one of the service's when a stream ends.
    async fn run(
        &self,
        driver: &mut Driver,
        service: &mut watch::Receiver<Service>,
        backoff: &mut Backoff,
        rng: &mut fastrand::Rng,
    ) -> Result<(), Closed> {
        loop {
            let started = Instant::now();
            let mut greeted = false;
            // Whether it takes no more streams; this one it will end itself.
            let mut leaving = false;
            let name = service.borrow().name.clone();
            let end = {
                let mut stream = std::pin::pin!(self.stream(&name, &mut greeted));
                loop {
                    tokio::select! {
                        biased;
                        ended = &mut stream => break End::Stream(ended?),
                        ending = &mut *driver, if !leaving => match ending {
                            Ending::GoAway(reason) => {
                                tracing::debug!(balancer = %self.balancer.addr, %reason, "leaving");
                                leaving = true;
                            }
                            ended @ Ending::Closed(_) => break self.connection_end(&ended),
                        },
                        () = renamed(service, &name) => break End::Renamed,
                    }
                }
            };
            self.config.metrics.balancer_connected.store(0, Relaxed);
            // A stream that breaks with its connection does not know why that did.
            let end = match (end, leaving) {
                (End::Stream(reason), false) => match driver.now_or_never() {
                    Some(ended @ Ending::Closed(_)) => self.connection_end(&ended),
                    Some(Ending::GoAway(_)) => {
                        leaving = true;
                        End::Stream(reason)
                    }
                    None => End::Stream(reason),
                },
                (end, _) => end,
            };
            let (reason, connected) = match end {
                End::Stream(reason) => (reason, !leaving),
                End::Connection(reason) => (reason, false),
                End::Renamed => {
                    self.send(Event::Renamed).await?;
                    if leaving {
                        return Ok(());
                    }
                    continue;
                }
            };
            tracing::debug!(balancer = %self.balancer.addr, %reason, "balancer stream ended");
            self.send(Event::Lost(reason)).await?;
            let again = started + reopen_after(started.elapsed(), greeted, backoff, rng);
            if !connected {
                wait(again, service).await;
                return Ok(());
            }
            // The connection wants to be driven meanwhile.
            let connected = {
                let pause = std::pin::pin!(wait(again, service));
                matches!(future::select(pause, &mut *driver).await, Either::Left(_))
            };
            if !connected {
                wait(again, service).await;
                return Ok(());
            }
            if !service.borrow().balancers.contains(self.balancer) {
                return Ok(());
            }
        }
    }

    fn connection_end(&self, ended: &Ending) -> End {
        let balancer = self.balancer.addr;
        End::Connection(format!(
            "the connection to balancer {balancer} ended: {ended}"
        ))
    }

    /// One stream, from its request to its end; returns why it ended.
    #[tracing::instrument(
        name = "balance_load",
        level = "debug",
        skip_all,
        fields(balancer = %self.balancer.addr, service = name)
    )]
    async fn stream(&self, name: &str, greeted: &mut bool) -> Result<String, Closed> {
        self.config.metrics.streams.fetch_add(1, Relaxed);
        // One place: a report waits here until the balancer has taken the last.
        let (requests, outbound) = mpsc::channel(1);
        let initial = Request::InitialRequest(InitialLoadBalanceRequest {
            name: name.to_owned(),
        });
        if requests.send(message(initial)).await.is_err() {
            return Err(Closed);
        }
        let mut request = tonic::Request::new(ReceiverStream::new(outbound));
        if let Ok(agent) = self.config.user_agent.to_str().unwrap_or_default().parse() {
            request.metadata_mut().insert("user-agent", agent);
        }
        let mut client = LoadBalancerClient::with_origin(self.connection.clone(), self.origin());
        let mut responses = match client.balance_load(request).await {
            Ok(responses) => responses.into_inner(),
            Err(status) => return Ok(self.end(&status, *greeted)),
        };
        let stats = Arc::new(StreamStats::default());
        let mut reports = Reports::default();
        loop {
            let response = tokio::select! {
                response = responses.message() => response,
                () = reports.due() => {
                    reports.send(&stats, &requests);
                    continue;
                }
            };
            match response {
                Ok(Some(response)) => match response.load_balance_response_type {
                    Some(Response::InitialResponse(initial)) if !*greeted => {
                        *greeted = true;
                        self.config.metrics.balancer_connected.store(1, Relaxed);
                        tracing::debug!("the balancer answers");
                        let asked = initial.client_stats_report_interval;
                        if self.config.report {
                            reports.start(asked.as_ref().and_then(from_proto));
                        }
                    }
                    Some(Response::ServerList(list)) => {
                        self.config.metrics.lists.fetch_add(1, Relaxed);
                        tracing::debug!(entries = list.servers.len(), "list");
                        let list = Event::List(list.servers, Arc::clone(&stats));
                        self.send(list).await?;
                    }
                    Some(Response::FallbackResponse(_)) => self.send(Event::Fallback).await?,
                    unexpected => {
                        tracing::warn!(
                            balancer = %self.balancer.addr,
                            ?unexpected,
                            "a message that makes no sense here is ignored"
                        );
                    }
                },
                Ok(None) => {
                    return Ok(format!("balancer {} ended the stream", self.balancer.addr));
                }
                Err(status) => {
                    // A message that is too long or malformed: the next stream is
                    // likely to bring it again.
                    *greeted &= !matches!(status.code(), Code::OutOfRange | Code::Internal);
                    return Ok(self.end(&status, *greeted));
                }
            }
        }
    }

    fn end(&self, status: &tonic::Status, greeted: bool) -> String {
        let (addr, code) = (self.balancer.addr, status.code());
        let colon = if status.message().is_empty() {
            ""
        } else {
            ": "
        };
        let doubt = match code {
            Code::Unimplemented if !greeted => "; is this the port of a grpc.lb.v1 balancer?",
            _ => "",
        };
        let said = status.message();
        format!("the stream to balancer {addr} ended with {code:?}{colon}{said}{doubt}")
    }

    fn origin(&self) -> Uri {
        let name = self.balancer.authority.trim_end_matches('.');
        let authority = name.parse::<Authority>();
        let authority = authority.or_else(|_| self.balancer.addr.to_string().parse());
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.config.connect.scheme());
        parts.authority = authority.ok();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        Uri::from_parts(parts).unwrap_or_default()
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }
}

/// How long after the start of a stream that lasted for `age` the next one may
/// start. `greeted` says whether the balancer got as far as the handshake, and then
/// said what can be understood.
fn reopen_after(
    age: Duration,
    greeted: bool,
    backoff: &mut Backoff,
    rng: &mut fastrand::Rng,
) -> Duration {
    if !greeted {
        return backoff.next_delay(rng);
    }
    backoff.reset();
    let floor = jittered(FLOOR, Backoff::JITTER, rng);
    floor.max(age + SPREAD.mul_f64(rng.f64()))
}

pub(super) fn message(request: Request) -> LoadBalanceRequest {
    LoadBalanceRequest {
        load_balance_request_type: Some(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balancer_that_ends_every_stream_is_asked_once_a_second() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            let after = reopen_after(Duration::ZERO, true, &mut backoff, &mut rng);
            assert!(after >= Duration::from_millis(800), "{after:?}");
            assert!(after <= Duration::from_millis(1200), "{after:?}");
        }
    }

    #[test]
    fn clients_that_were_cut_off_together_do_not_return_together() {
        let mut rng = fastrand::Rng::with_seed(3);
        let hour = Duration::from_secs(3600);
        let delays: Vec<_> = (0..100)
            .map(|_| reopen_after(hour, true, &mut Backoff::default(), &mut rng) - hour)
            .collect();
        assert!(delays.iter().all(|delay| *delay <= SPREAD));
        let early = delays.iter().filter(|delay| **delay < SPREAD / 2).count();
        assert!(
            (30..=70).contains(&early),
            "{early} of 100 in the first half"
        );
    }

    #[test]
    fn a_balancer_that_refuses_is_asked_ever_more_rarely() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            reopen_after(Duration::ZERO, false, &mut backoff, &mut rng);
        }
        let after = reopen_after(Duration::ZERO, false, &mut backoff, &mut rng);
        assert!(after >= Duration::from_secs(96), "{after:?}");
        // Until one stream is greeted.
        reopen_after(Duration::ZERO, true, &mut backoff, &mut rng);
        let after = reopen_after(Duration::ZERO, false, &mut backoff, &mut rng);
        assert!(after <= Duration::from_millis(1200), "{after:?}");
    }
}
