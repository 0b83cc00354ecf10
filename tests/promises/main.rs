//! The promises of lookaside, a module each. One binary, so that they link
//! once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conformance;
mod groups;
mod health;
mod lifecycle;
mod lists;
mod load;
mod registration;
mod rust_client;
mod tidy;
mod tls;
