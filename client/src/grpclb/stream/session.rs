//! One connection to a balancer, and the streams over it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::FutureExt as _;
use futures_util::future::{self, Either};
use http::uri::{Authority, Uri};
use lookaside_proto::duration::from_proto;
use lookaside_proto::lb_v1::InitialLoadBalanceRequest;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType as Request;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType as Response;
use lookaside_proto::lb_v1::load_balancer_client::LoadBalancerClient;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::reopen::reopen_after;
use super::{Event, Service, StreamConfig, message, renamed, wait};
use crate::backoff::Backoff;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::grpclb::reports::Reports;
use crate::grpclb::stats::StreamStats;
use crate::resolve::BalancerAddress;
use crate::subchannel::{Connection, Driver, Ending};

/// Nobody takes events any more.
pub(super) struct Closed;

/// How a stream came to its end.
enum End {
    Stream(ConnectError),
    Connection(ConnectError),
    Renamed,
}

/// One connection to a balancer, and the streams over it.
pub(super) struct Session<'a> {
    pub(super) config: &'a StreamConfig,
    pub(super) events: &'a mpsc::Sender<Event>,
    pub(super) balancer: &'a BalancerAddress,
    pub(super) connection: Connection,
}

impl Session<'_> {
    /// Opens one stream after the other until the connection ends, or the
    /// balancer is no longer one of the service's when a stream ends.
    pub(super) async fn run(
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
        let text = format!("the connection to balancer {balancer} ended: {ended}");
        End::Connection(ConnectError::new(ConnectErrorKind::Balancer, text))
    }

    /// One stream, from its request to its end; returns why it ended.
    #[tracing::instrument(
        name = "balance_load",
        level = "debug",
        skip_all,
        fields(balancer = %self.balancer.addr, service = name)
    )]
    async fn stream(&self, name: &str, greeted: &mut bool) -> Result<ConnectError, Closed> {
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
            Err(status) => return Ok(self.end(status, *greeted)),
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
                    let text = format!("balancer {} ended the stream", self.balancer.addr);
                    return Ok(ConnectError::new(ConnectErrorKind::Balancer, text));
                }
                Err(status) => {
                    // A message that is too long or malformed: the next stream is
                    // likely to bring it again.
                    *greeted &= !matches!(status.code(), Code::OutOfRange | Code::Internal);
                    return Ok(self.end(status, *greeted));
                }
            }
        }
    }

    fn end(&self, status: tonic::Status, greeted: bool) -> ConnectError {
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
        let text = format!("the stream to balancer {addr} ended with {code:?}{colon}{said}{doubt}");
        ConnectError::new(ConnectErrorKind::Balancer, text).by(status)
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
