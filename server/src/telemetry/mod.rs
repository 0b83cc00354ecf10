//! Logs and metrics: where they go and what they are called.
//!
//! Metrics are structs that are handed down. Each module registers its own in
//! the [`MetricsRegistry`]; there are no globals.

mod exposition;
mod filter;
#[cfg(test)]
mod lines;
mod logging;
mod metrics;
mod printable;
#[cfg(target_os = "linux")]
mod process;
mod seldom;
mod series;
mod stderr;

pub use exposition::Exposition;
pub use filter::BadLogFilter;
#[cfg(test)]
pub(crate) use lines::Lines;
pub use logging::{LogFormat, init};
pub use metrics::MetricsRegistry;
pub use printable::{Escapes, escape, printable};
pub use seldom::Seldom;
pub use series::{Held, Series};
