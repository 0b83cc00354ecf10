//! The one shared state: which services there are, what is known of their
//! backends, and what their clients should be sent.
//!
//! Feeders and fronts write through six doors, [`Fleet::configure`],
//! [`Fleet::contribute`], [`Fleet::mark_stale`], [`Fleet::report`],
//! [`Fleet::suspect`] and [`Fleet::set_health`]; nobody else writes. Each
//! service has one publisher task, which turns what is known into a
//! [`Snapshot`] that moves as a whole. Readers hold one `Arc` of it.

mod backend_log;
mod directory;
mod memory;
mod metrics;
mod news;
mod publisher;
mod readiness;
mod seating;
mod service;
mod snapshot;
mod subscribers;
mod suspicions;
mod view;
mod weight_metrics;

pub use backend_log::{BackendEvent, BackendLog};
pub use directory::{Fleet, FleetConfig, ResolveError, ServiceEntry};
pub use memory::{LONGEST_MEMORY, Remembered};
pub use metrics::FleetMetrics;
pub use readiness::Readiness;
pub use service::{Reported, Service, SourceState};
pub use snapshot::{Group, Listing, Snapshot};
pub use subscribers::{EndReason, Subscription, Update};

#[cfg(test)]
mod tests;
