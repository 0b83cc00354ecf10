//! What the ways of asking have in common: whom, for whom, and what becomes of the
//! answer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use lookaside_proto::orca_v3::OrcaLoadReport;
use tokio::sync::watch;

use super::metrics::LoadMetrics;
use crate::catalogue::Catalogue;
use crate::subchannel::{NotOpened, Ready, State};
use lookaside_core::model::{BackendAddr, ServiceName};
use lookaside_core::weights::ReportSource;

/// One backend that is asked. Clones are of the same.
#[derive(Debug, Clone)]
pub(super) struct LoadTarget {
    pub(super) backend: BackendAddr,
    pub(super) metrics: LoadMetrics,
    catalogue: Arc<Catalogue>,
    /// Who wants to know. A std mutex: held to tell the few.
    services: Arc<Mutex<BTreeSet<ServiceName>>>,
}

impl LoadTarget {
    pub(super) fn new(
        backend: BackendAddr,
        catalogue: Arc<Catalogue>,
        metrics: LoadMetrics,
    ) -> Self {
        Self {
            backend,
            metrics,
            catalogue,
            services: Arc::default(),
        }
    }

    /// From now on these want to know.
    pub(super) fn serve(&self, services: BTreeSet<ServiceName>) {
        *self.services.lock().unwrap_or_else(PoisonError::into_inner) = services;
    }

    /// The backend reports.
    pub(super) fn report(&self, source: ReportSource, load: &OrcaLoadReport) {
        self.each(|service| {
            let result = self
                .catalogue
                .report_load(service, self.backend, source, load);
            self.metrics.reported(result);
        });
    }

    /// What it should have kept up broke.
    pub(super) fn suspect(&self) {
        self.each(|service| self.catalogue.suspect(service, self.backend));
    }

    /// A connection is no more. Whoever had it or was to have it is in doubt; if there
    /// is another one by now, it is there.
    pub(super) fn left(&self, states: &watch::Receiver<State>) {
        if states.borrow().ready().is_none() {
            self.suspect();
        }
    }

    /// Waits for a connection. Until there is one, whatever that means is found out
    /// at the backend's own address.
    pub(super) async fn connected(&self, states: &mut watch::Receiver<State>) -> Ready {
        loop {
            match &*states.borrow_and_update() {
                State::Ready(ready) => return ready.clone(),
                State::Idle | State::Connecting => {}
                State::Failed(NotOpened::OwnFault(_)) => self.metrics.ended("own_fault"),
                State::Failed(_) => {
                    self.metrics.ended("no_connection");
                    self.suspect();
                }
            }
            if states.changed().await.is_err() {
                // It ends only with the hold, which whoever waits has.
                std::future::pending::<()>().await;
            }
        }
    }

    fn each(&self, tell: impl FnMut(&ServiceName)) {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.iter().for_each(tell);
    }
}
