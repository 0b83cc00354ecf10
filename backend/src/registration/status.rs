//! How things are with each balancer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lookaside_proto::duration;
use lookaside_proto::registration_v1 as pb;
use tokio::sync::watch;
use tokio::time::Instant;

use super::RegistrationError;

/// A lease that a balancer does not state.
const DEFAULT_LEASE: Duration = Duration::from_secs(15);

/// A report interval that a balancer does not state.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// No report interval is shorter or longer, whatever a balancer asks.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// A balancer, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BalancerStatus {
    /// Where it is.
    pub addr: SocketAddr,
    /// What it says.
    pub state: BalancerState,
}

/// What a balancer says of this backend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BalancerState {
    /// Nothing yet.
    Connecting,
    /// It has it; for each service, see there.
    Registered(Registered),
    /// It has it, and has taken it out of every list.
    Drained,
    /// It does not answer, for this reason.
    Lost(String),
    /// It wants nothing of it, for this reason.
    Refused(String),
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registered {
    /// The address the backend is listed with.
    pub address: String,
    /// How long it stays listed if nothing more is heard of it.
    pub lease: Duration,
    /// How often it reports.
    pub report_interval: Duration,
    /// Each service, and why the backend is not listed for it if it is not.
    pub services: Vec<(String, Result<(), String>)>,
}

/// Where sessions write, and everybody reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(watch::Sender<Statuses>);

pub(super) type Statuses = BTreeMap<SocketAddr, Entry>;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) state: BalancerState,
    /// Until when the balancer may have the backend in its lists, if nothing
    /// more is heard from either.
    pub(super) listed_until: Option<Instant>,
}

impl Registered {
    /// Whether the backend is listed for all of its services.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.services.iter().all(|(_, result)| result.is_ok())
    }

    pub(super) fn from_proto(message: pb::Registered) -> Self {
        let read = |d: Option<prost_types::Duration>| d.as_ref().and_then(duration::from_proto);
        let interval = read(message.report_interval).unwrap_or(DEFAULT_INTERVAL);
        let services = message.services.into_iter().map(|result| {
            let accepted = result.outcome() == pb::Outcome::Accepted;
            let error = match result.error {
                error if error.is_empty() => format!("the balancer says {:?}", result.outcome),
                error => error,
            };
            (result.service, if accepted { Ok(()) } else { Err(error) })
        });
        Self {
            address: message.address,
            lease: read(message.lease).unwrap_or(DEFAULT_LEASE),
            report_interval: interval.clamp(INTERVALS.0, INTERVALS.1),
            services: services.collect(),
        }
    }

    /// Why the backend is not listed, service by service.
    pub(super) fn faults(&self) -> Vec<String> {
        let faults = self.services.iter().filter_map(|(service, result)| {
            let error = result.as_ref().err()?;
            Some(format!("{service}: {error}"))
        });
        faults.collect()
    }
}

impl Board {
    /// Things with `addr` are like this now. A lease is told anew with each
    /// state; without one the last stands.
    pub(super) fn set(&self, addr: SocketAddr, state: BalancerState, lease: Option<Duration>) {
        let until = lease.map(|lease| Instant::now() + lease);
        self.0.send_modify(|statuses| {
            let before = statuses.get(&addr).and_then(|entry| entry.listed_until);
            let listed_until = until.or(before);
            statuses.insert(
                addr,
                Entry {
                    state,
                    listed_until,
                },
            );
        });
    }

    /// The balancer heard from the backend just now.
    pub(super) fn renew(&self, addr: SocketAddr, lease: Duration) {
        self.0.send_if_modified(|statuses| {
            if let Some(entry) = statuses.get_mut(&addr) {
                entry.listed_until = Some(Instant::now() + lease);
            }
            // Nobody waits for this.
            false
        });
    }

    pub(super) fn is_drained(&self, addr: SocketAddr) -> bool {
        let state = self.read(|statuses| statuses.get(&addr).map(|entry| entry.state.clone()));
        state == Some(BalancerState::Drained)
    }

    pub(super) fn remove(&self, addr: SocketAddr) {
        self.0.send_modify(|statuses| {
            statuses.remove(&addr);
        });
    }

    pub(super) fn statuses(&self) -> Vec<BalancerStatus> {
        let statuses = self.0.borrow();
        let statuses = statuses.iter().map(|(addr, entry)| BalancerStatus {
            addr: *addr,
            state: entry.state.clone(),
        });
        statuses.collect()
    }

    /// Waits for a state of things.
    pub(super) async fn until(&self, condition: impl FnMut(&Statuses) -> bool) {
        // The sender lives in self, so this ends only with what is waited for.
        let _ = self.0.subscribe().wait_for(condition).await;
    }

    /// Reads something off.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Statuses) -> T) -> T {
        read(&self.0.borrow())
    }

    pub(super) async fn registered(&self) -> Result<(), RegistrationError> {
        let mut answer = None;
        self.until(|statuses| {
            answer = answer_in(statuses);
            answer.is_some()
        })
        .await;
        answer.unwrap_or(Ok(()))
    }
}

fn answer_in(statuses: &Statuses) -> Option<Result<(), RegistrationError>> {
    let mut refused = None;
    for (addr, entry) in statuses {
        let reason = match &entry.state {
            BalancerState::Registered(registered) if registered.is_complete() => {
                return Some(Ok(()));
            }
            BalancerState::Registered(registered) => registered.faults().join("; "),
            BalancerState::Refused(reason) => reason.clone(),
            _ => continue,
        };
        refused.get_or_insert(RegistrationError::Refused {
            balancer: *addr,
            reason,
        });
    }
    refused.map(Err)
}
