//! All services, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::info;

use super::backend_log::BackendLog;
use super::membership::{Membership, Memberships};
use super::memory::{Memory, Remembered};
use super::metrics::CatalogueMetrics;
use super::overrides::Override;
use super::publisher::{Publisher, READY_DEADLINE};
use super::readiness::{Latch, Readiness};
use super::service::{Reported, Service};
use super::source::Missing;
use super::suspicions::Suspicions;
use crate::wait::restarting;
use lookaside_core::model::{BackendAddr, RequestedName, ServiceName};
use lookaside_core::plan::{
    Contribution, HealthFields, ServiceSettings, SourceId, SourceKind, plan,
};
use lookaside_core::weights::Report;

/// A publisher that is there says what it has learned in less.
const ANSWER: Duration = Duration::from_secs(5);

/// Every service the balancer knows. Clones of the `Arc` are handles.
#[derive(Debug)]
pub struct Catalogue {
    services: DashMap<ServiceName, Arc<Service>>,
    aliases: ArcSwap<BTreeMap<ServiceName, ServiceName>>,
    /// How often it was configured.
    configured: watch::Sender<u64>,
    membership: Membership,
    suspicions: Suspicions,
    /// They end with the catalogue.
    publishers: Mutex<JoinSet<()>>,
    memory: Arc<Memory>,
    ready: Latch,
    backend_log: BackendLog,
    metrics: CatalogueMetrics,
}

/// Which services there should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CatalogueConfig {
    /// The services.
    pub services: Vec<ServiceEntry>,
}

/// One service of a [`CatalogueConfig`].
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceEntry {
    /// Its name; no other service and no alias has it.
    pub name: ServiceName,
    /// Its other names.
    pub aliases: Vec<ServiceName>,
    /// What its operator says of it as a whole.
    pub settings: ServiceSettings,
    /// Where its backends are learned. It is ready when each has answered.
    pub sources: BTreeSet<SourceId>,
}

/// Why a name leads to no service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such service, and what services there are is known.
    #[error("no service of this name is configured")]
    Unknown,
    /// Nothing is known of it yet; ask again.
    #[error("the balancer does not know its backends yet")]
    NotReady,
}

impl Catalogue {
    /// A catalogue without services, which is not configured yet.
    #[must_use]
    pub fn new(metrics: CatalogueMetrics) -> Arc<Self> {
        Arc::new(Self {
            services: DashMap::new(),
            aliases: ArcSwap::default(),
            configured: watch::Sender::new(0),
            membership: Membership::default(),
            suspicions: Suspicions::default(),
            publishers: Mutex::default(),
            memory: Arc::default(),
            ready: Latch::default(),
            backend_log: BackendLog::default(),
            metrics,
        })
    }

    /// Where whoever learns what happens to backends notes it for the log.
    #[must_use]
    pub fn backend_log(&self) -> &BackendLog {
        &self.backend_log
    }

    /// Makes these the services: adds, changes and removes what differs. The
    /// streams of a removed service end, spread over two seconds.
    pub fn configure(&self, config: CatalogueConfig) {
        self.configure_with(config, BTreeMap::new());
    }

    /// The same, together with what the file lists now of the backends of some services:
    /// clients of one that changed in both ways never see one without the other.
    pub fn configure_with(
        &self,
        config: CatalogueConfig,
        mut listed: BTreeMap<ServiceName, Contribution>,
    ) {
        let names: BTreeSet<&ServiceName> = config.services.iter().map(|s| &s.name).collect();
        let gone = |name: &ServiceName| !names.contains(name);
        self.services.retain(|name, service| {
            if gone(name) {
                info!(service = %name, "service removed");
                service.remove();
            }
            !gone(name)
        });
        let aliases = config.services.iter().flat_map(|entry| {
            let aliases = entry.aliases.iter().cloned();
            aliases.map(|alias| (alias, entry.name.clone()))
        });
        self.aliases.store(Arc::new(aliases.collect()));

        let mut publishers = self.publishers();
        // Those of services that were removed.
        while publishers.try_join_next().is_some() {}
        for entry in config.services {
            let file = listed.remove(&entry.name);
            if let Some(service) = self.services.get(&entry.name) {
                service.configure(entry.settings, &entry.sources, file);
                continue;
            }
            info!(service = %entry.name, "service added");
            let membership = self.membership.clone();
            let service = Service::new(
                entry.name.clone(),
                entry.settings,
                entry.sources,
                membership,
            );
            if let Some(file) = file {
                service.contribute(&SourceKind::File.into(), file, Missing::Removed);
            }
            let service = Arc::new(service);
            self.services.insert(entry.name, Arc::clone(&service));
            let metrics = self.metrics.service(service.name());
            let memory = Arc::clone(&self.memory);
            publishers.spawn(async move {
                let mut publisher = Publisher::new(&plan, &service, &memory, metrics);
                restarting(&mut publisher).await;
            });
        }
        drop(publishers);
        self.configured.send_modify(|times| *times += 1);
        self.membership.note_change();
    }

    /// What `source` lists of a service's backends. It replaces what it listed before:
    /// backends that it no longer lists were taken out on purpose, and go at once. Ignored
    /// if there is no such service, or it does not have this source.
    pub fn contribute(
        &self,
        service: &ServiceName,
        source: impl Into<SourceId>,
        contribution: Contribution,
    ) {
        if let Some(service) = self.services.get(service) {
            service.contribute(&source.into(), contribution, Missing::Removed);
        }
    }

    /// The same of a source that cannot tell backends that were taken out from those that
    /// it lost sight of, as a registry of leases: if most of them vanish at once, they stay
    /// listed for [`HOLD`](super::HOLD), but for those that are known to be `gone`.
    pub fn observe(
        &self,
        service: &ServiceName,
        source: impl Into<SourceId>,
        contribution: Contribution,
        gone: &BTreeSet<BackendAddr>,
    ) {
        if let Some(service) = self.services.get(service) {
            let missing = Missing::Vanished { but: gone };
            service.contribute(&source.into(), contribution, missing);
        }
    }

    /// Takes back all that `source` said of a service, as if it had not answered yet.
    pub fn withdraw(&self, service: &ServiceName, source: impl Into<SourceId>) {
        if let Some(service) = self.services.get(service) {
            service.withdraw(&source.into());
        }
    }

    /// Sets weight and drain of a backend before what its sources state, whether or not one
    /// lists it now. Replaces what was set of it. Ignored if there is no such service.
    pub fn set_override(&self, service: &ServiceName, backend: BackendAddr, set: Override) {
        if let Some(service) = self.services.get(service) {
            service.set_override(backend, set);
        }
    }

    /// Leaves a backend to its sources again.
    pub fn clear_override(&self, service: &ServiceName, backend: BackendAddr) {
        if let Some(service) = self.services.get(service) {
            service.clear_override(backend);
        }
    }

    /// A backend's report of its load. It counts from the next step of the
    /// service's policy on; one that says that nearly all calls fail is looked at
    /// at once.
    pub fn report(&self, service: &ServiceName, backend: BackendAddr, report: Report) -> Reported {
        let service = self.services.get(service);
        service.map_or(Reported::UnknownBackend, |service| {
            service.report(backend, report)
        })
    }

    /// What is known of a backend's health; replaces what was. Ignored if no
    /// source of the service knows the backend.
    pub fn set_health(&self, service: &ServiceName, backend: BackendAddr, health: HealthFields) {
        if let Some(service) = self.services.get(service) {
            service.set_health(backend, health);
        }
    }

    /// Something broke that a backend which is there would have kept, as a
    /// connection to it: it stays listed, and is looked at at once. Ignored if no
    /// source of the service knows the backend.
    pub fn suspect(&self, service: &ServiceName, backend: BackendAddr) {
        if self.set_suspect(service, backend, true) {
            self.suspicions.add(service.clone(), backend);
        }
    }

    /// Whether there is a reason to doubt that a backend is there, and nothing
    /// more: nobody looks at it for that. Says whether a source of the service
    /// knows the backend.
    pub fn set_suspect(&self, service: &ServiceName, backend: BackendAddr, suspect: bool) -> bool {
        let service = self.services.get(service);
        service.is_some_and(|service| service.set_suspect(backend, suspect))
    }

    /// Waits for suspects that nobody has looked at, and takes them. For the one
    /// who looks.
    pub async fn suspects(&self) -> Vec<(ServiceName, BackendAddr)> {
        self.suspicions.take().await
    }

    /// `source` does not answer for a service: what it said last stands.
    pub fn mark_stale(&self, service: &ServiceName, source: impl Into<SourceId>) {
        if let Some(service) = self.services.get(service) {
            service.mark_stale(&source.into());
        }
    }

    /// What a service learned in an earlier life. It goes on from there when it
    /// begins; if it never does, this is forgotten after a day.
    pub fn remember(&self, service: ServiceName, remembered: Remembered) {
        self.memory.keep(service, remembered);
    }

    /// What every service has learned, those included that are remembered and do
    /// not run. A service that does not answer at once is left out.
    pub async fn recollect(&self) -> BTreeMap<ServiceName, Remembered> {
        let services = self.services();
        let asked = services.iter().map(|service| async {
            let saved = timeout(ANSWER, service.saving().ask()).await.ok()??;
            let saved = Remembered::new(saved, Duration::ZERO);
            Some((service.name().clone(), saved))
        });
        let running = join_all(asked).await;
        let mut all = self.memory.all();
        all.extend(running.into_iter().flatten());
        all
    }

    /// Waits until clients are told of weights that a service learned.
    pub async fn learned(&self) {
        self.memory.learned().await;
    }

    /// Whether it is known which services there are.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.generation() > 0
    }

    /// How often it was configured: while this is the same, so are the names of
    /// services and their aliases.
    #[must_use]
    pub fn generation(&self) -> u64 {
        *self.configured.borrow()
    }

    /// Whether the balancer as a whole is ready. It stays so once it is.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if !self.is_configured() {
            return Readiness::Unconfigured;
        }
        let services = self.services();
        let waiting = services.iter().filter(|s| s.snapshot().is_none());
        self.ready
            .judge(waiting.map(|s| s.name().clone()).collect())
    }

    /// Waits until every service that is there has something to send: from then on
    /// [`Self::readiness`] says so, whoever is added later.
    pub async fn ready(&self) {
        self.until_configured().await;
        for service in self.services() {
            // A service that leaves before it was ready is not waited for.
            service.ready().await;
        }
        self.ready.set();
    }

    /// Every service, by name.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<Service>> {
        let mut services: Vec<_> = self.services.iter().map(|s| Arc::clone(&s)).collect();
        services.sort_by(|a, b| a.name().cmp(b.name()));
        services
    }

    /// The service or alias of exactly this name, in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Service>> {
        if let Some(service) = self.services.get(name) {
            return Some(Arc::clone(&service));
        }
        let aliases = self.aliases.load();
        let service = self.services.get(aliases.get(name)?)?;
        Some(Arc::clone(&service))
    }

    /// Follows which services there are, and which backends each has.
    #[must_use]
    pub fn memberships(&self) -> Memberships {
        self.membership.follow()
    }

    /// Every other name of a service.
    #[must_use]
    pub fn aliases(&self) -> Arc<BTreeMap<ServiceName, ServiceName>> {
        self.aliases.load_full()
    }

    /// The service that a client's name means: one of the whole name, else one
    /// of the name without its port.
    #[must_use]
    pub fn find(&self, name: &RequestedName) -> Option<Arc<Service>> {
        self.get(name.exact()).or_else(|| self.get(name.host()))
    }

    /// The same, once there is something to send. Until then it waits, for a
    /// client that hears nothing keeps what it has; after ten seconds it gives
    /// up.
    ///
    /// # Errors
    /// If there is no such service, or nothing is known of it in time.
    pub async fn resolve(&self, name: &RequestedName) -> Result<Arc<Service>, ResolveError> {
        let resolved = timeout(READY_DEADLINE, async {
            self.until_configured().await;
            let service = self.find(name).ok_or(ResolveError::Unknown)?;
            service.ready().await;
            Ok(service)
        });
        resolved.await.unwrap_or(Err(ResolveError::NotReady))
    }

    fn publishers(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.publishers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn until_configured(&self) {
        let mut configured = self.configured.subscribe();
        // The sender lives in self, so this ends only with a value.
        let _ = configured.wait_for(|times| *times > 0).await;
    }
}
