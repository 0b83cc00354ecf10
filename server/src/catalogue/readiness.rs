//! Whether the balancer is ready: once it is, it stays so.

use std::sync::atomic::{AtomicBool, Ordering};

use lookaside_core::model::ServiceName;

/// Whether the balancer as a whole can answer clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It is not known which services there are.
    Unconfigured,
    /// These services have no list to send yet, and so far not all had one at the
    /// same time.
    Starting(Vec<ServiceName>),
    /// Every service had a list to send. Of these, which came later, it is not known
    /// yet: their streams are held, and all others go on.
    Ready {
        /// The services.
        warming: Vec<ServiceName>,
    },
}

/// Set the first time that everything is ready. A balancer that took readiness back
/// for a service that was added would take every service out with it, and all its
/// replicas at once.
#[derive(Debug, Default)]
pub(super) struct Latch(AtomicBool);

impl Latch {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// What follows from which services have no list.
    pub(super) fn judge(&self, waiting: Vec<ServiceName>) -> Readiness {
        if waiting.is_empty() {
            self.set();
        }
        if self.0.load(Ordering::Acquire) {
            Readiness::Ready { warming: waiting }
        } else {
            Readiness::Starting(waiting)
        }
    }
}
