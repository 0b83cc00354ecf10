//! A gRPC channel for tonic that follows a grpclb balancer, and balances without
//! one.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use lookaside_client::Channel;
//! use lookaside_proto::helloworld::greeter_client::GreeterClient;
//!
//! let channel = Channel::builder("dns:///greeter.example.com:50051").connect().await?;
//! let mut greeter = GreeterClient::new(channel); // any tonic stub
//! # Ok(()) }
//! ```
//!
//! If DNS names a balancer for the target (SRV `_grpclb._tcp.<host>`), the channel
//! opens a stream to it and sends RPCs to the backends of its list: in its order,
//! with its repetitions, its tokens and its drops. RPCs go straight to the
//! backends. Without a balancer the channel uses `pick_first` or `round_robin`
//! over the target's addresses.
//!
//! # TLS
//!
//! Off by default, and then nothing of it is built. With
//! `lookaside-client = { version = "…", features = ["tls"] }` in `Cargo.toml` there
//! are `ClientTls`, `Builder::tls` for backends and `Builder::balancer_tls` for
//! the balancer, each with its own trust: see `ClientTls`. It is rustls with ring.
//!
//! | floor | modules | what they do |
//! |---|---|---|
//! | C5 | [`Channel`], [`Builder`] | what an application touches |
//! | C4 | `grpclb` | the stream to the balancer, its lists, fallback, statistics |
//! | C3 | [`policy`] | which connection an RPC takes |
//! | C2 | [`resolve`], [`subchannel`] | from names to addresses, from addresses to connections |
//! | C1 | [`Target`], [`endpoint`], [`backoff`], `ClientTls`, [`Error`] | ground |
//!
//! Each floor imports from the ones below it only.

pub mod backoff;
pub mod endpoint;
mod error;
mod metrics;
pub mod service_config;
mod target;
#[cfg(feature = "tls")]
mod tls;

pub mod resolve;
pub mod subchannel;

pub mod policy;

mod grpclb;

mod builder;
mod call;
mod channel;
mod control;
mod state_watch;

pub use self::builder::Builder;
pub use self::call::WaitForReady;
pub use self::channel::Channel;
pub use self::endpoint::ConnectivityState;
pub use self::error::{Error, ResolveError, TargetError};
pub use self::metrics::{BalancerMetrics, ChannelMetrics, SubchannelCounts};
pub use self::state_watch::StateWatch;
pub use self::target::{DEFAULT_PORT, Target};
#[cfg(feature = "tls")]
pub use self::tls::ClientTls;
