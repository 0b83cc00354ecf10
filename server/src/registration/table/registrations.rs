//! Who is registered for one service.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Change, Lease, Registration, StreamState};
use crate::catalogue::HOLD;
use lookaside_core::model::{BackendAddr, ServiceName};
use lookaside_core::plan::{Contribution, MemberFields};

/// The backends of one service.
#[derive(Debug)]
pub(super) struct Registrations {
    pub(super) backends: BTreeMap<BackendAddr, Registration>,
    pub(super) per_ip: HashMap<IpAddr, usize>,
    /// Backends that are known to be gone, which was not told yet.
    pub(super) gone: BTreeSet<BackendAddr>,
    /// Until then backends of before a restart are waited for.
    pub(super) opens: Instant,
    /// Whether there may be any.
    pub(super) at_start: bool,
    /// Whether it is open to registration.
    pub(super) allowed: bool,
    /// Whether what is registered was told before.
    told: bool,
}

impl Registrations {
    /// Nobody yet, and nothing is told before `opens`.
    pub(super) fn new(opens: Instant, at_start: bool) -> Self {
        Self {
            backends: BTreeMap::new(),
            per_ip: HashMap::new(),
            gone: BTreeSet::new(),
            opens,
            at_start,
            allowed: true,
            told: false,
        }
    }

    /// Takes out a backend that is known to be gone.
    pub(super) fn remove(&mut self, addr: BackendAddr) {
        if self.take_out(addr).is_some() {
            self.gone.insert(addr);
        }
    }

    /// Takes out all, as from a service that is not open any more.
    pub(super) fn clear(&mut self) {
        self.gone.extend(self.backends.keys());
        self.backends.clear();
        self.per_ip.clear();
    }

    /// Ends leases, and returns whose. Whether those backends are gone is not known: they
    /// keep their backends while the catalogue may hold them.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<BackendAddr> {
        let mut expired = Vec::new();
        let mut forgotten = Vec::new();
        for (addr, registration) in &mut self.backends {
            match registration.lease {
                Lease::Runs { until } if until <= now => {
                    registration.lease = Lease::Over { kept: now + HOLD };
                    expired.push(*addr);
                }
                Lease::Over { kept } if kept <= now => forgotten.push(*addr),
                Lease::Runs { .. } | Lease::Over { .. } => {}
            }
        }
        for addr in forgotten {
            self.take_out(addr);
        }
        expired
    }

    fn take_out(&mut self, addr: BackendAddr) -> Option<Registration> {
        let registration = self.backends.remove(&addr)?;
        if let Some(count) = self.per_ip.get_mut(&addr.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&addr.ip());
            }
        }
        Some(registration)
    }

    /// What is to be told, one after the other. Of backends that fell silent before anything
    /// was told, it is told first that they were there: the catalogue holds nobody of whom
    /// it never heard.
    pub(super) fn changes(&mut self, service: &ServiceName) -> Vec<Change> {
        let mut states: Vec<(BackendAddr, StreamState)> = Vec::new();
        for (addr, registration) in &mut self.backends {
            if registration.told != registration.state {
                registration.told = registration.state;
                states.push((*addr, registration.state));
            }
        }
        let change = |contribution| Change {
            service: service.clone(),
            contribution,
            gone: BTreeSet::new(),
            states: Vec::new(),
        };
        let (all, leased) = (self.contribution(|_| true), self.contribution(Lease::runs));
        let first = !std::mem::replace(&mut self.told, true);
        let before = (first && all != leased).then(|| change(all));
        let now = Change {
            gone: std::mem::take(&mut self.gone),
            states,
            ..change(leased)
        };
        before.into_iter().chain([now]).collect()
    }

    /// The backends whose lease is such.
    fn contribution(&self, lease: impl Fn(&Lease) -> bool) -> Contribution {
        let backends = self.backends.iter();
        let backends = backends.filter(|(_, registration)| lease(&registration.lease));
        let members = backends.map(|(addr, registration)| {
            let fields = MemberFields {
                weight: registration.weight,
                zone: registration.zone.clone(),
                drain: Some(registration.drain),
                labels: registration.labels.clone(),
                incarnation: Some(Arc::clone(&registration.instance)),
            };
            (*addr, fields)
        });
        members.collect()
    }
}
