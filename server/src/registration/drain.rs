//! When a drain is done.

use crate::fleet::Fleet;
use lookaside_core::model::{BackendAddr, ServiceName};

/// Waits until what clients of a service are sent no longer has the backend.
pub(super) async fn unlisted(fleet: &Fleet, service: &ServiceName, addr: BackendAddr) {
    let Some(service) = fleet.get(service.as_str()) else {
        return;
    };
    loop {
        let snapshot = service.snapshot();
        let version = snapshot.as_ref().map_or(0, |snapshot| snapshot.version);
        if let Some(snapshot) = snapshot {
            let mut members = snapshot.plan.members.iter();
            let listed = members.any(|member| member.addr == addr && member.weight() > 0.0);
            if !listed {
                return;
            }
        }
        service.newer_than(version).await;
    }
}
