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
//!
//! A program that runs a balancer needs [`app`] and [`config`] alone. The rest is public for
//! this repository's bench, fuzz targets and tests; it is not on docs.rs, and may change in
//! any release.

// Both panic where they cannot write; `cli` prints, `telemetry` logs.
#![warn(clippy::print_stderr, clippy::print_stdout)]

#[cfg_attr(docsrs, doc(hidden))]
pub mod certificate;
#[cfg_attr(docsrs, doc(hidden))]
pub mod file;
#[cfg_attr(docsrs, doc(hidden))]
pub mod net;
#[cfg_attr(docsrs, doc(hidden))]
pub mod subchannel;
#[cfg_attr(docsrs, doc(hidden))]
pub mod telemetry;
#[cfg_attr(docsrs, doc(hidden))]
pub mod wait;

pub mod config;

#[cfg_attr(docsrs, doc(hidden))]
pub mod rollout;

#[cfg_attr(docsrs, doc(hidden))]
pub mod catalogue;

#[cfg_attr(docsrs, doc(hidden))]
pub mod discovery;
#[cfg_attr(docsrs, doc(hidden))]
pub mod health;
#[cfg_attr(docsrs, doc(hidden))]
pub mod load;
#[cfg_attr(docsrs, doc(hidden))]
pub mod state;

#[cfg_attr(docsrs, doc(hidden))]
pub mod admin;
#[cfg_attr(docsrs, doc(hidden))]
pub mod balance_load;
#[cfg_attr(docsrs, doc(hidden))]
pub mod dns;
#[cfg_attr(docsrs, doc(hidden))]
pub mod registration;

pub mod app;
#[cfg_attr(docsrs, doc(hidden))]
pub mod cli;
