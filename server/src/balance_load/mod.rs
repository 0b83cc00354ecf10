//! `grpc.lb.v1.LoadBalancer/BalanceLoad`: the streams that clients follow.
//!
//! ```text
//!  request ─► checks ─► initial_request ─► service ready ─► subscribed
//!     └──────────┴─────────────┴──────────────────┴─► an error, before anything else
//!  subscribed ─► initial_response ─► list ─► list ─► …        ◄─ client stats
//! ```
//!
//! What is refused is refused *before* `initial_response`: only then clients
//! back off. After it they come back at once, 1500 times a second each, so a
//! stream is never ended without need.
//!
//! The method is a plain HTTP service, not a generated one: its lists are bytes
//! that all streams share, and tonic's codec would copy them into a buffer of
//! each stream. There is no task and no queue per stream either. A stream is a
//! response body that looks at the newest list when HTTP/2 asks it for more, so
//! a slow client gets the message it has begun and then the newest one.

mod admission;
mod body;
mod budget;
mod data;
mod delivery;
mod dispatch;
mod grpc_message;
mod handshake;
mod method;
mod metrics;
mod refusal;
mod request;
mod responses;
mod side;
mod stats;
mod stream;
mod throttle;

#[cfg(test)]
mod tests;

pub use admission::StreamLimits;
pub use body::Body;
pub use data::Data;
pub use dispatch::{Dispatch, ResponseFuture};
pub use method::BalanceLoad;
pub use metrics::BalanceLoadMetrics;
pub use request::{Encoding, MAX_ENTRIES, MAX_REQUEST, Malformed, Message, RequestReader};
pub use responses::MIN_REPORT_INTERVAL;
