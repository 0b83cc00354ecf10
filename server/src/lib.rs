//! The balancer: the server side of `grpc.lb.v1`.
//!
//! The binary is `lookaside`; this library is what it runs, so that tests and
//! programs can run it too. Modules are floors, and a floor uses only the ones
//! below it:
//!
//! | floor | modules | what it does |
//! |---|---|---|
//! | S7 | [`cli`] | says what to run |
//! | S6 | [`app`] | wires; the only one who knows all |
//! | S5 | [`balance_load`], [`registration`], [`dns`], [`admin`] | fronts: answer somebody |
//! | S4 | [`discovery`], [`health`], [`load`], [`state`] | feeders: learn something, or remember it |
//! | S3 | [`catalogue`] | the one shared state, and its publishers |
//! | S2 | [`rollout`] | how a configuration reaches the parts |
//! | S1 | [`config`] | text, no I/O and no clock |
//! | S0 | [`mod@file`], [`certificate`], [`telemetry`], [`net`], [`subchannel`], [`wait`] | ground |
//!
//! The arithmetic below them is a crate of its own, `lookaside-core`.
//! `ARCHITECTURE.md` has the map and the invariants.

// Both panic where they cannot write; `cli` prints, `telemetry` logs.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod certificate;
pub mod file;
pub mod net;
pub mod subchannel;
pub mod telemetry;
pub mod wait;

pub mod config;

pub mod rollout;

pub mod catalogue;

pub mod discovery;
pub mod health;
pub mod load;
pub mod state;

pub mod admin;
pub mod balance_load;
pub mod dns;
pub mod registration;

pub mod app;
pub mod cli;
