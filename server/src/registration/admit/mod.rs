//! From a claim to registrations in the table, by one set of rules.
//!
//! A claim is judged without the table's lock, as files of tokens are read for that,
//! and registered under it. Rules change under the same lock: if they did meanwhile, the
//! claim is judged again, so nobody gets a registration by rules that no longer hold.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use lookaside_proto::registration_v1::Outcome;
use tokio::time::Instant;

use super::Shared;
use super::claim::Claim;
use super::rules::{Caller, Refused, Rules, lease};
use super::table::{Before, Lease, Owner, Registration, Rejected, StreamState, Table};
use crate::catalogue::BackendEvent;
use lookaside_core::model::{BackendAddr, ServiceName};

/// A registration: the service, and the backend's address in it.
pub(super) type RegistrationKey = (ServiceName, BackendAddr);

/// Who claims what.
pub(super) struct Applicant<'a> {
    pub(super) claim: &'a Claim,
    pub(super) caller: &'a Arc<Caller>,
    pub(super) owner: &'a Arc<Owner>,
    pub(super) draining: bool,
}

/// What became of a claim.
pub(super) struct Admitted {
    /// How often the backend reports.
    pub(super) interval: Duration,
    /// By service of the claim, in its order.
    pub(super) results: Vec<Result<(), Refused>>,
}

/// A claim that was judged, and the rules that it was judged by.
struct Judgment {
    rules: Arc<Rules>,
    services: Vec<Result<ServiceName, Refused>>,
}

/// Registers the backend wherever the rules allow, and takes it out of those of its
/// `places` that it no longer claims, or may no longer have. Afterwards `places` is
/// where it is.
pub(super) async fn admit(
    shared: &Shared,
    applicant: &Applicant<'_>,
    places: &mut Vec<RegistrationKey>,
) -> Admitted {
    loop {
        let rules = Arc::clone(&shared.rules.borrow());
        shared.answered(&rules, applicant.claim).await;
        let judged = judge(shared, rules, applicant);
        if let Ok(admitted) = register(shared, judged, applicant, places) {
            return admitted;
        }
    }
}

fn judge(shared: &Shared, rules: Arc<Rules>, applicant: &Applicant<'_>) -> Judgment {
    let services = rules.judge(applicant.claim, applicant.caller, &shared.tokens);
    Judgment { rules, services }
}

/// The rules changed since the claim was judged.
#[derive(Debug)]
struct Outdated;

fn register(
    shared: &Shared,
    judged: Judgment,
    applicant: &Applicant<'_>,
    places: &mut Vec<RegistrationKey>,
) -> Result<Admitted, Outdated> {
    let Judgment { rules, services } = judged;
    let mut table: MutexGuard<'_, Table> = shared.table();
    if !Arc::ptr_eq(&rules, &shared.rules.borrow()) {
        return Err(Outdated);
    }
    let addr = applicant.claim.addr();
    let interval = rules.interval(services.iter().flatten());
    let until = Instant::now() + lease(interval);
    let mut before = std::mem::take(places);
    let mut news = Vec::new();
    let mut results = Vec::with_capacity(services.len());
    for service in services {
        let taken = service.and_then(|service| {
            let any = rules.any_address(&service);
            let taken = table.take(&service, addr, applicant.registration(until), any);
            taken.map(|was| (service, was)).map_err(Refused::from)
        });
        results.push(taken.map(|(service, was)| {
            match was {
                Before::Nothing => news.push((service.clone(), BackendEvent::Registered)),
                Before::Another => news.push((service.clone(), BackendEvent::Superseded)),
                Before::Itself => {}
            }
            let place = (service, addr);
            before.retain(|old| *old != place);
            if !places.contains(&place) {
                places.push(place);
            }
        }));
    }
    for (service, addr) in before {
        table.leave(&service, addr, applicant.owner.id);
    }
    drop(table);
    shared.changed.notify_one();
    for (service, event) in news {
        if event == BackendEvent::Superseded {
            shared.metrics.ended("superseded", 1);
        }
        shared
            .catalogue
            .backend_log()
            .note(&service, addr, event, "");
    }
    Ok(Admitted { interval, results })
}

impl Applicant<'_> {
    fn registration(&self, until: Instant) -> Registration {
        Registration {
            owner: Arc::clone(self.owner),
            caller: Arc::clone(self.caller),
            instance: Arc::clone(&self.claim.instance),
            weight: self.claim.weight,
            zone: self.claim.zone.clone(),
            labels: self.claim.labels.clone(),
            drain: self.draining,
            lease: Lease::Runs { until },
            state: StreamState::Connected,
            told: StreamState::Connected,
        }
    }
}

impl From<Rejected> for Refused {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Closed => Self::closed(),
            Rejected::ServiceFull | Rejected::IpFull => {
                Self::new(Outcome::Full, rejected.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests;
