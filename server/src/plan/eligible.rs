//! Which backends are listed.

use super::{Member, Merged};

/// Where a backend is in its life, as far as lists are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendState {
    /// Gets calls.
    Serving,
    /// Gets no new calls, because an operator or the backend said so.
    Draining,
}

impl BackendState {
    /// Every state, for metrics.
    pub const ALL: [Self; 2] = [Self::Serving, Self::Draining];

    /// Its name in messages and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }

    /// Whether a backend in this state is in the lists.
    #[must_use]
    pub fn is_listed(self) -> bool {
        matches!(self, Self::Serving)
    }
}

/// The member that a merged backend is, before it is weighed.
pub(super) fn judge(merged: &Merged) -> Member {
    let drained = merged.drain || merged.weight.is_drained();
    Member {
        addr: merged.addr,
        state: if drained {
            BackendState::Draining
        } else {
            BackendState::Serving
        },
        operator: merged.weight,
        factor: 1.0,
        zone: merged.zone.clone(),
    }
}
