//! The embedded DNS server: authoritative for what gRPC clients ask about the
//! services of the catalogue, and for nothing else.
//!
//! | asked | answered |
//! |---|---|
//! | SRV `_grpclb._tcp.<service>` | the balancers |
//! | A, AAAA of such a target | addresses of the balancers |
//! | A, AAAA `<service>` | backends, for clients that lost every balancer |
//! | TXT `_grpc_config.<service>`, TXT `<service>` | the service config that selects grpclb |
//! | SOA, NS of `<service>` | a SOA, as in every answer without records; the targets |
//!
//! ```text
//! bytes ─► respond (message) ─► Query ─► answer ─► Answer ─► bytes
//!                                          ▲
//!                     Zone (names) + backends, from the catalogue
//! ```
//!
//! All of it is arithmetic on values but the two loops of [`Dns::run`]. The
//! loops are our own, over hickory's wire types: hickory's server has no bound
//! on its TCP connections, answers a wildcard's UDP from whichever address the
//! kernel picks, puts replies in a queue that drops what overflows, and logs
//! the names that strangers ask for.

mod answer;
mod cookies;
mod datagrams;
mod follow;
mod live;
mod message;
mod metrics;
mod networks;
mod request;
mod room;
mod serials;
mod server;
mod settings;
mod streams;
mod zone;

pub use answer::{Answer, MAX_BACKENDS, View, answer};
pub use cookies::Cookies;
pub use follow::ZoneFollower;
pub use message::{Asker, MAX_UDP, Reply, Transport, respond};
pub use metrics::DnsMetrics;
pub use server::Dns;
pub use settings::{BadTarget, ZoneSettings};
pub use zone::{Zone, ZoneMatch, ZoneService};

#[cfg(test)]
mod tests;
