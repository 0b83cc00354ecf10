//! Listening and serving: sockets, TLS, HTTP/2, limits. Knows nothing of gRPC
//! or of what is served.
//!
//! ```text
//!  accept thread ─► [TLS handshake task] ─► connection task (hyper http2)
//!   (Listener)       (TlsFiles)               ├─ coalescing IO ─► socket
//!                                             └─ one task per stream
//! ```
//!
//! hyper's HTTP/2 connection is driven directly, not through tonic's `Server`:
//! that way accepting, the handshake timeout, the caps and the way bytes reach
//! the socket are ours, and an idle stream costs less memory. Accepting has a
//! thread of its own because an accept *task* competes with the connections it
//! just made: under 10 000 connects at once the kernel's queue overflows, and
//! clients wait seconds for their SYN to be sent again.

mod accept;
mod coalesce;
mod connection;
mod connections;
mod limits;
mod listener;
mod metrics;
mod network;
mod peer;
mod revoke;
mod serve;
mod tls;
mod transport;

#[cfg(test)]
mod tests;

pub use limits::{Limits, Nofile, raise_nofile};
pub use listener::{Listener, cannot_listen};
pub use metrics::NetMetrics;
pub use network::Network;
pub use peer::Peer;
pub use serve::{Options, Shutdown, serve};
pub use tls::{Reload, TlsError, TlsFiles, TlsPaths};
