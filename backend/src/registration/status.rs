//! How things are with each balancer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lookaside_proto::duration;
use lookaside_proto::registration_v1 as pb;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::RegistrationError;

/// How long [`Board::registered`] waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A lease that a balancer does not state.
const DEFAULT_LEASE: Duration = Duration::from_secs(15);

/// A report interval that a balancer does not state.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// No report interval is shorter or longer, whatever a balancer asks.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// How a registration is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RegistrationStatus {
    /// Each target, in the order given.
    pub targets: Vec<TargetStatus>,
    /// Each balancer that was found there.
    pub balancers: Vec<BalancerStatus>,
}

/// A target, and how its balancers are found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetStatus {
    /// The target.
    pub target: String,
    /// Why no balancer can be found there now. Those known from before stay in use.
    pub error: Option<String>,
}

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

/// Where sessions and lookups write, and everybody reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Board {
    balancers: watch::Sender<Statuses>,
    targets: watch::Sender<Vec<TargetStatus>>,
}

pub(super) type Statuses = BTreeMap<SocketAddr, Entry>;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) state: BalancerState,
    /// Until when the balancer may have the backend in its lists, if nothing
    /// more is heard from either.
    pub(super) listed_until: Option<Instant>,
}

impl RegistrationStatus {
    /// Whether a balancer has the backend for all of its services.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.balancers.iter().any(
            |balancer| matches!(&balancer.state, BalancerState::Registered(it) if it.is_complete()),
        )
    }

    /// Why no balancer has the backend for all of its services; `None` if one has, or
    /// had and was told to drain it.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        if self.is_registered() {
            return None;
        }
        let targets = self.targets.iter().filter_map(|it| {
            let error = it.error.as_ref()?;
            Some(format!("{}: {error}", it.target))
        });
        let mut reasons: Vec<_> = targets.collect();
        for BalancerStatus { addr, state } in &self.balancers {
            match state {
                BalancerState::Drained => return None,
                BalancerState::Connecting => {
                    reasons.push(format!("balancer {addr} has not answered yet"));
                }
                BalancerState::Lost(reason) => reasons.push(format!("balancer {addr}: {reason}")),
                BalancerState::Refused(reason) => {
                    reasons.push(format!("balancer {addr} refuses this backend: {reason}"));
                }
                BalancerState::Registered(it) => {
                    reasons.push(format!("balancer {addr}: {}", it.faults().join("; ")));
                }
            }
        }
        Some(match reasons.is_empty() {
            true => "no balancer has been found yet".to_owned(),
            false => reasons.join("; "),
        })
    }
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
    /// The targets that are looked up, in order.
    pub(super) fn looking_up(&self, targets: impl IntoIterator<Item = String>) {
        let status = |target| TargetStatus {
            target,
            error: None,
        };
        let targets = targets.into_iter().map(status).collect();
        self.targets.send_replace(targets);
    }

    /// What looking up a target came to.
    pub(super) fn looked_up(&self, index: usize, error: Option<String>) {
        self.targets.send_modify(|targets| {
            if let Some(target) = targets.get_mut(index) {
                target.error = error;
            }
        });
    }

    /// Balancers that have taken the backend out are asked to take it in again.
    pub(super) fn undrain(&self) {
        self.balancers.send_modify(|statuses| {
            for entry in statuses.values_mut() {
                if entry.state == BalancerState::Drained {
                    entry.state = BalancerState::Connecting;
                }
            }
        });
    }

    pub(super) fn status(&self) -> RegistrationStatus {
        RegistrationStatus {
            targets: self.targets.borrow().clone(),
            balancers: self.statuses(),
        }
    }

    /// Things with `addr` are like this now. A lease is told anew with each
    /// state; without one the last stands.
    pub(super) fn set(&self, addr: SocketAddr, state: BalancerState, lease: Option<Duration>) {
        let until = lease.map(|lease| Instant::now() + lease);
        self.balancers.send_modify(|statuses| {
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
        self.balancers.send_if_modified(|statuses| {
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
        self.balancers.send_modify(|statuses| {
            statuses.remove(&addr);
        });
    }

    pub(super) fn statuses(&self) -> Vec<BalancerStatus> {
        let statuses = self.balancers.borrow();
        let statuses = statuses.iter().map(|(addr, entry)| BalancerStatus {
            addr: *addr,
            state: entry.state.clone(),
        });
        statuses.collect()
    }

    /// Waits for a state of things.
    pub(super) async fn until(&self, condition: impl FnMut(&Statuses) -> bool) {
        // The sender lives in self, so this ends only with what is waited for.
        let _ = self.balancers.subscribe().wait_for(condition).await;
    }

    /// Reads something off.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Statuses) -> T) -> T {
        read(&self.balancers.borrow())
    }

    pub(super) async fn registered(&self) -> Result<(), RegistrationError> {
        let mut answer = None;
        let answered = self.until(|statuses| {
            answer = answer_in(statuses);
            answer.is_some()
        });
        let answered = timeout(PATIENCE, answered).await.is_ok();
        match (answer, self.status().reason()) {
            (Some(answer), _) => answer,
            (None, Some(reason)) if !answered => Err(RegistrationError::NoAnswer(reason)),
            (None, _) => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        let board = Board::default();
        board.looking_up(["dns:///lb.test:9000".to_owned()]);
        board
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_the_wait_ends_with_what_is_known_of_the_reason() {
        let board = board();
        let begun = Instant::now();
        let error = board.registered().await.unwrap_err();
        assert_eq!(begun.elapsed(), PATIENCE);
        let text = "not registered yet: no balancer has been found yet";
        assert_eq!(error.to_string(), text);

        board.looked_up(0, Some("no such name".to_owned()));
        let addr = ([10, 0, 0, 5], 9000).into();
        board.set(addr, BalancerState::Lost("no route".to_owned()), None);
        let error = board.registered().await.unwrap_err().to_string();
        assert!(
            error.contains("dns:///lb.test:9000: no such name"),
            "{error}"
        );
        assert!(
            error.contains("balancer 10.0.0.5:9000: no route"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_balancer_that_has_the_backend_is_enough() {
        let board = board();
        let registered = Registered::from_proto(pb::Registered::default());
        for (last, state) in [
            (1, BalancerState::Lost("no route".to_owned())),
            (2, BalancerState::Registered(registered)),
        ] {
            board.set(([10, 0, 0, last], 9000).into(), state, None);
        }
        board.registered().await.unwrap();
        assert_eq!(board.status().reason(), None);
    }
}
