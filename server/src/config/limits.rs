//! `[limits]`: what clients may take.

use std::time::Duration;

/// `[limits]`. What is not stated has a default, which for connections follows from
/// the number of files that the process may open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Connections to the balancer port.
    pub connections: Option<u32>,
    /// Of these, from one address, or one /64 of IPv6. Default three quarters.
    pub connections_per_address: Option<u32>,
    /// Streams on one connection. Default 100.
    pub streams_per_connection: Option<u32>,
    /// Streams of all methods of the balancer port. Default 200 000.
    pub streams: Option<u32>,
    /// Of these, from one address, or one /64 of IPv6. Default three quarters.
    pub streams_per_address: Option<u32>,
    /// Streams that are neither `BalanceLoad` nor registration. Default 10 000.
    pub other_streams: Option<u32>,
    /// Of those, from one address, or one /64 of IPv6. Default a tenth.
    pub other_streams_per_address: Option<u32>,
    /// Connections to the admin port.
    pub admin_connections: Option<u32>,
    /// Time for TLS and the beginning of HTTP/2. Default 10 s.
    pub handshake_timeout: Option<Duration>,
    /// Time for the first message of a `BalanceLoad` stream. Default 5 s.
    pub initial_request_timeout: Option<Duration>,
    /// A PING goes out on a connection that was silent for so long. Default 30 s.
    pub keepalive_interval: Option<Duration>,
    /// And the connection ends if it is not answered for so long. Default 20 s.
    pub keepalive_timeout: Option<Duration>,
    /// A connection ends on which a client takes nothing of what is there for it for
    /// so long. Default 60 s.
    pub stall_timeout: Option<Duration>,
}
