//! Backends of which something broke, until somebody looks at them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use lookaside_core::model::{BackendAddr, ServiceName};

/// Suspects that nobody has looked at yet: each once, and of known backends
/// only, so there are no more than those.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    // A std mutex: it is held for a few instructions.
    waiting: Mutex<BTreeSet<(ServiceName, BackendAddr)>>,
    added: Notify,
}

impl Suspicions {
    pub(super) fn add(&self, service: ServiceName, backend: BackendAddr) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert((service, backend));
        drop(waiting);
        self.added.notify_one();
    }

    /// Waits until there are some.
    pub(super) async fn take(&self) -> Vec<(ServiceName, BackendAddr)> {
        loop {
            let waiting = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *waiting)
            };
            if !waiting.is_empty() {
                return waiting.into_iter().collect();
            }
            self.added.notified().await;
        }
    }
}
