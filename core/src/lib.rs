//! The arithmetic of the lookaside balancer: what clients should get, worked out from what
//! is known of a service's backends.
//!
//! It is pure. Inputs go in, a value comes out: there is no task, no lock, no clock, no
//! randomness and no I/O here, and no dependency that has any, so that a simulation in
//! virtual time runs exactly the code that serves.
//!
//! | module | what it does |
//! |---|---|
//! | [`plan`] | merges what sources say of backends, and decides who is listed for whom, with what weight, and when |
//! | [`weights`] | weights from what backends report: policies, slow start, ejection |
//! | [`list`] | weights to the server lists of `grpc.lb.v1`, encoded |
//! | [`model`] | what the others speak of: services, backends, weights, tokens, networks |
//!
//! A module uses only the ones below it.

pub mod list;
pub mod model;
pub mod plan;
pub mod weights;
