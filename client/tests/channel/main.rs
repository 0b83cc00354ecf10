//! The channel against real sockets: backends, scripted balancers, and a DNS
//! server of the tests' own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

mod answers;
mod bad_dns;
mod bad_input;
mod drops;
mod fallback;
mod full;
mod interleavings;
mod leaving;
mod lists;
mod paused;
mod plain;
mod proxied;
mod records;
mod resolution;
mod retries;
mod runtimes;
mod state;
mod stats;
mod streams;
#[cfg(feature = "tls")]
mod tls;
mod watched;
