//! Who is registered, for what, until when. A value under a lock: no I/O here.

mod dismiss;
mod registrations;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::registrations::Registrations;
use super::rules::Caller;
use lookaside_core::model::{BackendAddr, Labels, ServiceName, Weight, Zone};
use lookaside_core::plan::Contribution;

/// Backends that may register for one service.
const MAX_BACKENDS: usize = 10_000;

/// Backends of one ip that may register for one service, where backends may not
/// choose their address: one host must not become most of a list.
const MAX_PER_IP: usize = 64;

/// The first backend of a service that is opened later is told after this.
const GATHER: Duration = Duration::from_secs(1);

/// Every registration.
#[derive(Debug, Default)]
pub(super) struct Table {
    services: BTreeMap<ServiceName, Registrations>,
    /// Whether it was said once which services are open.
    begun: bool,
    /// Services whose contribution is to be made anew.
    dirty: BTreeSet<ServiceName>,
    /// Backends whose streams broke off, to be probed.
    suspects: Vec<Suspect>,
    ended: Ended,
}

/// A stream as the owner of registrations.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) id: u64,
    /// Cancelled when another stream took an address over.
    pub(super) superseded: CancellationToken,
}

/// What a backend is registered with.
#[derive(Debug, Clone)]
pub(super) struct Registration {
    pub(super) owner: Arc<Owner>,
    /// Who registered, and what it showed.
    pub(super) caller: Arc<Caller>,
    pub(super) instance: Arc<str>,
    pub(super) weight: Option<Weight>,
    pub(super) zone: Option<Zone>,
    pub(super) labels: Labels,
    pub(super) drain: bool,
    pub(super) lease: Lease,
    pub(super) state: StreamState,
    /// What the catalogue was told of its state.
    pub(super) told: StreamState,
}

/// How long a backend is registered though nothing is heard from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    Runs {
        until: Instant,
    },
    /// Nothing was heard from it in time. It stays here, for the catalogue may hold it.
    Over {
        kept: Instant,
    },
}

impl Lease {
    fn runs(&self) -> bool {
        matches!(self, Self::Runs { .. })
    }
}

/// How the stream of a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamState {
    Connected,
    /// It broke off, and whether the backend is there is not known.
    Disconnected,
}

/// A backend whose stream broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) addr: BackendAddr,
    /// Of the stream.
    pub(super) owner: u64,
}

/// What there was at an address before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// The same backend.
    Itself,
    /// Another one, which is out now.
    Another,
}

/// Why a backend gets no registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejected {
    #[error("it is not open to registration")]
    Closed,
    #[error("it has {MAX_BACKENDS} registered backends, as many as a service may")]
    ServiceFull,
    #[error("this ip has {MAX_PER_IP} backends registered for it, as many as one may")]
    IpFull,
}

/// What is to be done about a service.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) service: ServiceName,
    pub(super) contribution: Contribution,
    /// Backends that left or are known to be gone, so that their absence is no mystery.
    pub(super) gone: BTreeSet<BackendAddr>,
    /// Backends whose state changed.
    pub(super) states: Vec<(BackendAddr, StreamState)>,
}

/// Registrations that ended since somebody read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) expired: Vec<(ServiceName, BackendAddr)>,
    pub(super) refused: Vec<(ServiceName, BackendAddr)>,
}

impl Table {
    /// These services are open to registration, and no others. What a service
    /// that is new here has is not told before the moment that is given with it; but
    /// if it was not there from the start, soon after its first backend is there.
    ///
    /// What the others have is told again: between two configurations that are seen
    /// here, a service may have been removed and added, and knows nothing then.
    pub(super) fn allow<'a>(&mut self, services: impl Iterator<Item = (&'a ServiceName, Instant)>) {
        for registrations in self.services.values_mut() {
            registrations.allowed = false;
        }
        for (service, opens) in services {
            // It is told even if nobody comes: then the source has answered.
            self.dirty.insert(service.clone());
            if let Some(registrations) = self.services.get_mut(service) {
                registrations.allowed = true;
                continue;
            }
            let registrations = Registrations::new(opens, !self.begun);
            self.services.insert(service.clone(), registrations);
        }
        self.begun = true;
        for (service, registrations) in &mut self.services {
            if !registrations.allowed {
                registrations.clear();
                self.dirty.insert(service.clone());
            }
        }
    }

    /// Registers a backend, in the place of whoever has its address.
    pub(super) fn take(
        &mut self,
        service: &ServiceName,
        addr: BackendAddr,
        mut registration: Registration,
        any_address: bool,
    ) -> Result<Before, Rejected> {
        // One that was closed is here until that was told.
        let open = self.services.get_mut(service).filter(|r| r.allowed);
        let registrations = open.ok_or(Rejected::Closed)?;
        let before = match registrations.backends.get(&addr) {
            Some(old) => {
                registration.told = old.told;
                if old.owner.id != registration.owner.id {
                    old.owner.superseded.cancel();
                }
                if old.instance == registration.instance {
                    Before::Itself
                } else {
                    Before::Another
                }
            }
            None => {
                let of_ip = registrations.per_ip.get(&addr.ip());
                if !any_address && of_ip.is_some_and(|count| *count >= MAX_PER_IP) {
                    return Err(Rejected::IpFull);
                }
                if registrations.backends.len() >= MAX_BACKENDS {
                    return Err(Rejected::ServiceFull);
                }
                *registrations.per_ip.entry(addr.ip()).or_default() += 1;
                Before::Nothing
            }
        };
        registrations.gone.remove(&addr);
        registrations.backends.insert(addr, registration);
        if !registrations.at_start {
            registrations.opens = registrations.opens.min(Instant::now() + GATHER);
        }
        self.dirty.insert(service.clone());
        Ok(before)
    }

    /// Something was heard of a stream's backend. Returns whether it is registered still.
    pub(super) fn renew(
        &mut self,
        service: &ServiceName,
        addr: BackendAddr,
        owner: u64,
        until: Instant,
    ) -> bool {
        let Some(registration) = self.registration(service, addr, owner) else {
            return false;
        };
        let lease = std::mem::replace(&mut registration.lease, Lease::Runs { until });
        if !lease.runs() {
            self.dirty.insert(service.clone());
        }
        true
    }

    /// A stream's backend wants no new calls.
    pub(super) fn drain(&mut self, service: &ServiceName, addr: BackendAddr, owner: u64) {
        if let Some(registration) = self.registration(service, addr, owner) {
            registration.drain = true;
            self.dirty.insert(service.clone());
        }
    }

    /// A stream's backend goes.
    pub(super) fn leave(&mut self, service: &ServiceName, addr: BackendAddr, owner: u64) {
        if self.registration(service, addr, owner).is_some() {
            self.remove(service, addr);
        }
    }

    /// A stream broke off; its backend stays until it is found to be gone.
    pub(super) fn disconnect(&mut self, service: &ServiceName, addr: BackendAddr, owner: u64) {
        let Some(registration) = self.registration(service, addr, owner) else {
            return;
        };
        registration.state = StreamState::Disconnected;
        self.dirty.insert(service.clone());
        let suspect = Suspect { addr, owner };
        if !self.suspects.contains(&suspect) {
            self.suspects.push(suspect);
        }
    }

    /// Nobody listens where a suspect was.
    pub(super) fn gone(&mut self, suspect: Suspect) {
        let services: Vec<ServiceName> = self.services.keys().cloned().collect();
        for service in services {
            let registration = self.registration(&service, suspect.addr, suspect.owner);
            let Some(registration) =
                registration.filter(|registration| registration.state == StreamState::Disconnected)
            else {
                continue;
            };
            let runs = registration.lease.runs();
            self.remove(&service, suspect.addr);
            if runs {
                self.ended.refused.push((service, suspect.addr));
            }
        }
    }

    /// Ends the leases that are over.
    pub(super) fn expire(&mut self, now: Instant) {
        for (service, registrations) in &mut self.services {
            let expired = registrations.expire(now);
            if !expired.is_empty() {
                let expired = expired.into_iter().map(|addr| (service.clone(), addr));
                self.ended.expired.extend(expired);
                self.dirty.insert(service.clone());
            }
        }
    }

    /// What changed since the last time, as far as it may be told.
    pub(super) fn changes(&mut self, now: Instant) -> Vec<Change> {
        let services = &mut self.services;
        let mut changes = Vec::new();
        self.dirty.retain(|service| {
            let Some(registrations) = services.get_mut(service) else {
                return false;
            };
            if registrations.allowed && registrations.opens > now {
                return true;
            }
            changes.extend(registrations.changes(service));
            if !registrations.allowed {
                services.remove(service);
            }
            false
        });
        changes
    }

    /// When to look again, if nothing happens.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let leases = self.services.values().flat_map(|r| r.backends.values());
        let leases = leases.map(|registration| match registration.lease {
            Lease::Runs { until } | Lease::Over { kept: until } => until,
        });
        let dirty = self.dirty.iter().filter_map(|name| self.services.get(name));
        let opens = dirty.map(|r| r.opens).filter(|opens| *opens > now);
        leases.chain(opens).min()
    }

    /// Whom to probe.
    pub(super) fn take_suspects(&mut self) -> Vec<Suspect> {
        std::mem::take(&mut self.suspects)
    }

    /// What ended since the last time.
    pub(super) fn take_ended(&mut self) -> Ended {
        std::mem::take(&mut self.ended)
    }

    fn registration(
        &mut self,
        service: &ServiceName,
        addr: BackendAddr,
        owner: u64,
    ) -> Option<&mut Registration> {
        let registration = self.services.get_mut(service)?.backends.get_mut(&addr)?;
        (registration.owner.id == owner).then_some(registration)
    }

    /// Who has a registration in a service.
    #[cfg(test)]
    pub(super) fn registered(&self, service: &str) -> BTreeSet<BackendAddr> {
        let registrations = self.services.get(service);
        registrations
            .into_iter()
            .flat_map(|r| r.backends.keys())
            .copied()
            .collect()
    }

    fn remove(&mut self, service: &ServiceName, addr: BackendAddr) {
        if let Some(registrations) = self.services.get_mut(service) {
            registrations.remove(addr);
            self.dirty.insert(service.clone());
        }
    }
}

#[cfg(test)]
mod tests;
