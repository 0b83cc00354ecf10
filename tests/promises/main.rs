//! The promises of lookaside, a module each. One binary, so that they link
//! once.

mod lifecycle;
mod lists;
mod rust_client;
mod tidy;
