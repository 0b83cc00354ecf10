//! Subchannels: one per address, each with at most one HTTP/2 connection, and
//! the states that gRPC gives them.
//!
//! ```text
//!        connect()            SETTINGS seen
//!  Idle ──────────► Connecting ─────────► Ready
//!   ▲                   │ failed            │ connection ended
//!   │     backoff over  ▼                   │
//!   ├──────────── TransientFailure          │
//!   └───────────────────────────────────────┘
//! ```
//!
//! They are ours, on h2's connection, because tonic's `Endpoint` connects lazily,
//! without backoff, hides GOAWAY and loses RPCs that never left. Here the end of
//! the connection's task is the death notice, and an RPC that never left comes
//! back to be sent elsewhere. hyper's client would do as well, but it runs two
//! tasks for each RPC, and sends headers and message one after the other.

mod connect;
mod connection;
mod driver;
mod foreign;
mod frames;
mod keepalive;
mod pool;
mod proxy;
mod request;
mod response;
mod transport;
mod upload;

use std::sync::Arc;

use tokio::sync::mpsc;

pub use self::connect::ConnectOptions;
pub(crate) use self::connect::{connect, describe};
pub use self::connection::{Connection, NotSent};
pub(crate) use self::connection::{NoStream, StreamPermit, first_stream};
pub(crate) use self::driver::{Driver, Ending};
pub(crate) use self::foreign::grpc_or_status;
pub use self::pool::Pool;
pub use self::proxy::Proxy;
pub(crate) use self::proxy::Tunnel;
pub(crate) use self::request::Kept;
pub use self::request::RequestBody;
pub use self::response::ResponseBody;
pub use self::transport::{Connect, System, Transport};
use crate::endpoint::Address;
use crate::error::ConnectError;

/// A hold on the subchannel to an address. The subchannel lives as long as
/// somebody holds it, and 10 s longer, in case the address comes back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subchannel(Arc<Hold>);

impl Subchannel {
    /// Where it connects to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0.address
    }
}

/// What all holds on one subchannel share. When the last is dropped, the pool
/// hears of it.
#[derive(Debug)]
struct Hold {
    address: Address,
    /// Where the pool has it.
    place: usize,
    release: mpsc::UnboundedSender<usize>,
}

impl PartialEq for Hold {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl Eq for Hold {}

impl std::hash::Hash for Hold {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // The pool may have ended first.
        let _ = self.release.send(self.place);
    }
}

/// What a subchannel is doing.
#[derive(Debug, Clone)]
pub enum SubchannelState {
    /// Nothing. It connects when a policy asks it to.
    Idle,
    /// It opens a connection.
    Connecting,
    /// It has a connection.
    Ready(Connection),
    /// The last attempt failed, for this reason; after the backoff it is idle.
    TransientFailure(Arc<ConnectError>),
}
