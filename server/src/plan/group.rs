//! Which clients get which backends.

use super::Member;
use crate::model::DropShare;
use crate::server_list::{ListSpec, ListedBackend};

/// What one group of clients is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupPlan {
    /// A server list.
    Servers(ListSpec),
    /// `fallback_response`: the service has no backend that may be called.
    Fallback,
}

/// Groups the clients: one group, which gets every listed backend.
pub(super) fn group(
    members: &[Member],
    operator_weights: bool,
    mean: Option<f64>,
    drops: &[DropShare],
) -> Vec<GroupPlan> {
    let listed = members.iter().filter(|member| member.listed);
    let backends: Vec<ListedBackend> = listed
        .map(|member| ListedBackend {
            addr: member.addr,
            weight: member.weight(),
        })
        .collect();
    if backends.is_empty() {
        return vec![GroupPlan::Fallback];
    }
    vec![GroupPlan::Servers(ListSpec {
        backends,
        operator_weights,
        mean,
        drops: drops.to_vec(),
    })]
}
