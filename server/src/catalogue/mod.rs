//! The one shared state: which services there are, what is known of their
//! backends, and what their clients should be sent.
//!
//! Feeders and fronts write through six doors, [`Catalogue::configure`],
//! [`Catalogue::contribute`], [`Catalogue::mark_stale`], [`Catalogue::report`],
//! [`Catalogue::suspect`] and [`Catalogue::set_health`]; nobody else writes. Each
//! service has one publisher task, which turns what is known into a
//! [`Snapshot`] that moves as a whole. Readers hold one `Arc` of it.

mod backend_log;
#[allow(
    clippy::module_inception,
    reason = "the type has the name of its folder"
)]
mod catalogue;
mod inputs;
mod membership;
mod memory;
mod metrics;
mod news;
mod publisher;
mod readiness;
mod roster;
mod service;
mod snapshot;
mod source;
mod suspicions;
mod weight_metrics;

pub use backend_log::{BackendEvent, BackendLog};
pub use catalogue::{Catalogue, CatalogueConfig, ResolveError, ServiceEntry};
pub use membership::Memberships;
pub use memory::{LONGEST_MEMORY, Remembered};
pub use metrics::CatalogueMetrics;
pub use readiness::Readiness;
pub use roster::{Roster, RosterChange};
pub use service::{Reported, Service};
pub use snapshot::{Observed, Snapshot, Snapshots};
pub use source::SourceState;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
