//! TLS: towards backends, and of clients whose credentials end.

mod backends;
mod revoked;
