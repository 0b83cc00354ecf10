//! What one check found, passed on to every service that wants to know.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metrics::HealthMetrics;
use crate::catalogue::{BackendEvent, Catalogue};
use lookaside_core::model::{BackendAddr, ServiceName};
use lookaside_core::plan::{HealthFields, Probe};

/// One backend's verdict, and who is told.
#[derive(Debug)]
pub(super) struct Findings {
    catalogue: Arc<Catalogue>,
    metrics: HealthMetrics,
    backend: BackendAddr,
    // A std mutex: held while the few services of one backend are told, so that
    // none is told what is no longer so.
    told: Mutex<Subscribers>,
}

#[derive(Debug)]
struct Subscribers {
    services: BTreeSet<ServiceName>,
    /// Nothing before the first finding: what the catalogue has is not worse.
    verdict: Option<HealthFields>,
    closed: bool,
}

impl Findings {
    pub(super) fn new(
        catalogue: Arc<Catalogue>,
        metrics: HealthMetrics,
        backend: BackendAddr,
    ) -> Self {
        metrics.judged(None, Some(Probe::Unknown));
        Self {
            catalogue,
            metrics,
            backend,
            told: Mutex::new(Subscribers {
                services: BTreeSet::new(),
                verdict: None,
                closed: false,
            }),
        }
    }

    pub(super) fn backend(&self) -> BackendAddr {
        self.backend
    }

    /// Tells the services, if it is news; `why` goes into the log.
    pub(super) fn tell(&self, verdict: HealthFields, why: &str) {
        self.tell_all(&mut self.told(), verdict, why);
    }

    /// The same for the last time.
    pub(super) fn close(&self, verdict: HealthFields, why: &str) {
        let mut told = self.told();
        told.closed = true;
        self.tell_all(&mut told, verdict, why);
    }

    /// These services want to know, and no others; they are told what is known,
    /// again too, for the catalogue forgets whoever is gone for a moment. Returns who
    /// wanted to know before.
    pub(super) fn serve(&self, services: BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
        let mut told = self.told();
        if let Some(verdict) = told.verdict {
            for service in &services {
                self.catalogue.set_health(service, self.backend, verdict);
            }
        }
        let before = std::mem::replace(&mut told.services, services);
        before.difference(&told.services).cloned().collect()
    }

    /// One more service wants to know; whether that is still possible.
    pub(super) fn add(&self, service: ServiceName) -> bool {
        let mut told = self.told();
        if told.closed {
            return false;
        }
        if let Some(verdict) = told.verdict {
            self.catalogue.set_health(&service, self.backend, verdict);
        }
        told.services.insert(service);
        true
    }

    /// Only these still want to know; whether there are any.
    pub(super) fn retain(&self, wants: impl Fn(&ServiceName) -> bool) -> bool {
        let mut told = self.told();
        told.services.retain(wants);
        !told.services.is_empty()
    }

    fn tell_all(&self, told: &mut Subscribers, verdict: HealthFields, why: &str) {
        let before = told.verdict.replace(verdict);
        if before == Some(verdict) {
            return;
        }
        let probe = |verdict: Option<HealthFields>| verdict.unwrap_or_default().probe;
        let (was, is) = (probe(before), verdict.probe);
        self.metrics.judged(Some(was), Some(is));
        let out = |probe| matches!(probe, Probe::Bad | Probe::Refused);
        let backend = self.backend;
        for service in &told.services {
            if out(is) && was != is {
                let event = BackendEvent::Unhealthy;
                self.catalogue
                    .backend_log()
                    .note(service, backend, event, why);
            } else if out(was) && !out(is) {
                let event = BackendEvent::Healthy;
                self.catalogue
                    .backend_log()
                    .note(service, backend, event, "");
            }
            self.catalogue.set_health(service, backend, verdict);
        }
    }

    fn told(&self) -> MutexGuard<'_, Subscribers> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Findings {
    fn drop(&mut self) {
        let verdict = self.told().verdict.unwrap_or_default();
        self.metrics.judged(Some(verdict.probe), None);
    }
}
