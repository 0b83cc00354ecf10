//! When a drain is done.

use crate::catalogue::Catalogue;
use lookaside_core::model::{BackendAddr, ServiceName};

/// Waits until what clients of a service are sent no longer has the backend.
pub(super) async fn unlisted(catalogue: &Catalogue, service: &ServiceName, addr: BackendAddr) {
    let Some(service) = catalogue.get(service.as_str()) else {
        return;
    };
    let mut snapshots = service.snapshots();
    while let Some(snapshot) = snapshots.next().await {
        let mut members = snapshot.plan.members.iter();
        if !members.any(|member| member.addr == addr && member.weight() > 0.0) {
            return;
        }
    }
}
