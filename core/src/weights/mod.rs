//! Weights: what each backend's operator weight is multiplied with.
//!
//! ```text
//! Report (checked) ─► Signals (smoothed) ─► WeightPolicy ─► Weigher (slow start, gate) ─► plan
//! ```
//!
//! A policy is one file behind [`WeightPolicy`]. Everything here is pure: it is
//! given reports and the time, and returns factors; what it remembers is plain
//! data with ages, which a restart can take up.
//!
//! Rules that hold whatever comes in: a weight is finite, above 0 and in its
//! policy's bounds; unknown is not zero; stale is held; noise is not published;
//! what an operator says is multiplied exactly and at once.

mod ejection;
mod feedback;
mod fixed;
mod gate;
mod moment;
mod policy;
mod published;
mod report;
mod settings;
mod signals;
mod slow_start;
mod statistics;
mod weigher;
mod weighted_round_robin;

pub use ejection::Ejections;
pub use feedback::{BOUNDS as FEEDBACK_BOUNDS, Feedback};
pub use fixed::Static;
pub use moment::Moment;
pub(crate) use moment::Rebase;
pub use policy::{Backends, Observed, PolicyChoice, Probation, WeightPolicy};
pub use published::PublishedWeight;
pub use report::{BadReport, Field, RawReport, Report, ReportSource};
pub use settings::WeightSettings;
pub use signals::{Applied, Freshness, LastReport, ReportSettings, Signals};
pub(crate) use statistics::{exp, ln, pull};
pub use weigher::{Candidate, GateCounts, Observation, SavedWeights, ServiceLoad, TICK, Weigher};
pub use weighted_round_robin::WeightedRoundRobin;
