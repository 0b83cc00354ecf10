//! The one shared state: which services there are, what is known of their
//! backends, and what their clients should be sent.
//!
//! It is written through these doors alone: [`Catalogue::configure`]; of a source,
//! [`Catalogue::contribute`], [`Catalogue::observe`], [`Catalogue::mark_stale`] and
//! [`Catalogue::withdraw`]; of a backend, [`Catalogue::report`] and
//! [`Catalogue::report_load`], [`Catalogue::suspect`],
//! [`Catalogue::set_health`] and [`Catalogue::set_override`]. Each service has one publisher task, which turns what is known into a
//! [`Snapshot`] that moves as a whole. Readers hold one `Arc` of it.

mod backend_log;
#[allow(
    clippy::module_inception,
    reason = "the type has the name of its folder"
)]
mod catalogue;
mod hold;
mod inputs;
mod load_report;
mod membership;
mod memory;
mod metrics;
mod news;
mod overrides;
mod publisher;
mod readiness;
mod roster;
mod service;
mod snapshot;
mod source;
mod source_news;
mod suspicions;
mod weight_metrics;

pub use backend_log::{BackendEvent, BackendLog};
pub use catalogue::{Catalogue, CatalogueConfig, ResolveError, ServiceEntry};
pub use hold::HOLD;
pub use load_report::REPORT_RESULTS;
pub use membership::Memberships;
pub use memory::{LONGEST_MEMORY, Remembered};
pub use metrics::CatalogueMetrics;
pub use overrides::Override;
pub use readiness::Readiness;
pub use roster::{Roster, RosterChange};
pub use service::{Reported, Service};
pub use snapshot::{Observed, Snapshot, Snapshots};
pub use source::SourceState;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
