//! Taking out who may not be registered any more.

use super::Table;
use crate::registration::rules::Caller;
use lookaside_core::model::{BackendAddr, ServiceName};

impl Table {
    /// Takes out those of whom it is said so.
    pub(in crate::registration) fn dismiss(
        &mut self,
        mut is_out: impl FnMut(&ServiceName, BackendAddr, &Caller) -> bool,
    ) {
        let mut out = Vec::new();
        for (service, registrations) in &self.services {
            for (addr, registration) in &registrations.backends {
                if is_out(service, *addr, &registration.caller) {
                    out.push((service.clone(), *addr));
                }
            }
        }
        for (service, addr) in out {
            self.remove(&service, addr);
        }
    }
}
