//! The stream to the balancer: `BalanceLoad`, opened, read, reported on, and
//! opened again, for as long as the channel lives.

mod reopen;
mod session;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::HeaderValue;
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::{LoadBalanceRequest, Server};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use self::session::Session;
use super::stats::StreamStats;
use crate::backoff::Backoff;
use crate::endpoint::Address;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::metrics::Metrics;
use crate::resolve::BalancerAddress;
use crate::subchannel::{ConnectOptions, Connection, Driver, connect};

/// What the stream tells the policy.
#[derive(Debug)]
pub(super) enum Event {
    /// A list, and what to count its calls with.
    List(Vec<Server>, Arc<StreamStats>),
    /// The balancer wants us to use the fallback addresses.
    Fallback,
    /// There is no stream. Another attempt will follow.
    Lost(ConnectError),
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
) -> Result<(BalancerAddress, Connection, Driver), ConnectError> {
    let mut reasons = vec![];
    let mut last = None;
    for balancer in addresses {
        let address = Address::from(balancer.addr);
        let options = config.connect.to(&balancer.authority);
        match connect(&address, &options, tasks).await {
            Ok((connection, driver)) => return Ok((balancer.clone(), connection, driver)),
            Err(error) => {
                reasons.push(error.to_string());
                last = Some(error);
            }
        }
    }
    Err(match last {
        None => ConnectError::new(ConnectErrorKind::Balancer, "no balancer is known"),
        Some(error) => {
            let reasons = reasons.join("; ");
            error.told(format!("no balancer can be reached; {reasons}"))
        }
    })
}

pub(super) fn message(request: LoadBalanceRequestType) -> LoadBalanceRequest {
    LoadBalanceRequest {
        load_balance_request_type: Some(request),
    }
}
