//! Logs and metrics: where they go and what they are called.
//!
//! Metrics are structs that are handed down. Each module registers its own in
//! the [`MetricsRegistry`]; there are no globals.

#[cfg(test)]
mod lines;
mod logging;
mod metrics;
mod series;

#[cfg(test)]
pub(crate) use lines::Lines;
pub use logging::{BadLogFilter, LogFormat, init};
pub use metrics::MetricsRegistry;
pub use series::{Held, Series};
