//! A gRPC channel for tonic that follows a grpclb balancer, and balances without
//! one.
//!
//! grpclb (`grpc.lb.v1`) is gRPC's lookaside load balancing: a client keeps a
//! stream open to a balancer, which sends it the list of backends to call, in
//! which order, how often each, and which share of calls to drop. RPCs go straight
//! to the backends. gRPC has clients for it in C++, Python, Ruby, PHP, Go and Java;
//! this is the one for Rust.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use lookaside_client::Channel;
//! use lookaside_proto::helloworld::HelloRequest;
//! use lookaside_proto::helloworld::greeter_client::GreeterClient;
//!
//! let channel = Channel::builder("dns:///greeter.example.com:50051").connect().await?;
//! let mut greeter = GreeterClient::new(channel); // any tonic stub
//! let reply = greeter.say_hello(HelloRequest { name: "world".into() }).await?;
//! println!("{}", reply.into_inner().message);
//! # Ok(()) }
//! ```
//!
//! The stub comes from your own protos, by any tonic 0.14; `lookaside_proto::helloworld`
//! is the Greeter of this repository's examples, and you do not need it. Until the
//! crate is on crates.io, `Cargo.toml` has it by git:
//!
//! ```toml
//! [dependencies]
//! lookaside-client = { git = "https://github.com/lookaside-lb/lookaside" }
//! tonic = "0.14"
//! ```
//!
//! A [`Channel`] is cheap to clone, reconnects by itself, and ends with its last
//! clone. Without a balancer it still is more than tonic's own: a dead backend is
//! not called, an RPC that never left is sent to another one, and you choose how
//! they are spread.
//!
//! # Targets
//!
//! Where backends and balancer are found ([`Target`]):
//!
//! | target | backends | balancer |
//! |---|---|---|
//! | `dns:///host[:port]`, `host[:port]` | A and AAAA of `host` | SRV `_grpclb._tcp.host` |
//! | `dns://10.0.0.53:53/host[:port]` | the same, asked of that server | the same |
//! | `ipv4:10.0.0.1:50051,…`, `ipv6:[2001:db8::1]:50051,…` | these | none |
//! | `static:10.0.0.1:50051,b.example.com:50051,…` | these, of either kind, and those of the names | none |
//! | `unix:path`, `unix:///absolute/path`, `unix-abstract:name` | that socket | none |
//! | any, with [`Builder::resolver`] | what your [`resolve::Resolve`] says | what it says |
//! | any, with [`Builder::balancer`] | those of the balancer's list | that one |
//!
//! `localhost` and IP literals are not looked up in SRV (gRFC A10). The SRV query
//! runs beside the others and delays them by half a second at most. The system's
//! name servers are asked as glibc asks them ([`resolve::Dns`]). A service config in TXT
//! `_grpc_config.host` is read with [`Builder::txt_service_config`].
//!
//! # Policies
//!
//! How RPCs are spread where there is no balancer:
//!
//! | policy | an RPC goes to | set by |
//! |---|---|---|
//! | `pick_first` | the first address that answers, until its connection ends | the default, as in gRPC |
//! | `round_robin` | the ready ones in turn | [`Builder::round_robin`] |
//! | `random` | a ready one, each as likely as the other | [`Builder::random`] |
//! | `weighted` | the ready ones by the resolver's weights, smoothly | [`Builder::weighted`] |
//! | `grpclb` | the entries of the balancer's list in turn; some are drops | a balancer that is found |
//! | your own | whatever it decides | [`Builder::policy`] with a [`policy::Policy`] |
//!
//! A service config, from DNS or from [`Builder::service_config`], comes before
//! these settings.
//!
//! # When things fail
//!
//! - An RPC fails with UNAVAILABLE while nothing can be reached, and says why; with
//!   the extension [`WaitForReady`] it waits. Its timeout holds while it waits, too.
//! - RPCs wait half a second for DNS to say whether there is a balancer, and then use
//!   the addresses as soon as one is ready. Where there is one, or was one before the
//!   channel was idle, they wait for its list: ten seconds, or until it refuses.
//! - An RPC that never left, or that a server refused unseen, is sent elsewhere. One
//!   that may have run is not, unless a service config has a retry policy for it
//!   ([`service_config::RetryPolicy`]).
//! - A balancer that dies leaves its list in use. If its backends die too, or if it
//!   never answers, the addresses from DNS are the fallback.
//! - [`Channel::watch_state`] follows the channel's state, [`Channel::metrics`] what
//!   it counts; the rest is told by `tracing`, once per change and not per RPC, in the
//!   spans `channel`, `balance_load` (debug) and `rpc` (debug).
//!
//! # TLS
//!
//! Off by default, and then nothing of it is built. With `features = ["tls"]` behind
//! `lookaside-client` in `Cargo.toml` there are `ClientTls`, `Builder::tls` for
//! backends and `Builder::balancer_tls` for the balancer, each with its own trust:
//! see `ClientTls`. It is rustls with ring.
//!
//! # Without DNS
//!
//! `default-features = false` leaves out the feature `dns` and its crates. Targets then
//! are IP addresses, sockets, and what a resolver of your own knows.
//!
//! # Inside
//!
//! | floor | modules | what they do |
//! |---|---|---|
//! | C5 | [`Channel`], [`Builder`] | what an application touches |
//! | C4 | `grpclb` | the stream to the balancer, its lists, fallback, statistics |
//! | C3 | [`policy`] | which connection an RPC takes |
//! | C2 | [`resolve`], [`subchannel`] | from names to addresses, from addresses to connections |
//! | C1 | [`Target`], [`endpoint`], [`backoff`], [`service_config`], `ClientTls`, [`Error`] | ground |
//!
//! Each floor imports from the ones below it only. `CONFORMANCE.md` has, for each
//! test of gRPC's own grpclb clients, ours.

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backoff;
pub mod endpoint;
mod error;
mod metrics;
pub mod service_config;
mod target;
#[cfg(feature = "tls")]
pub mod tls;
mod until;

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
pub use self::call::{Peer, WaitForReady};
pub use self::channel::Channel;
pub use self::endpoint::ConnectivityState;
pub use self::error::{ConnectError, ConnectErrorKind, Error, ResolveError, TargetError};
pub use self::metrics::{BalancerMetrics, ChannelMetrics, FinishedCall, SubchannelCounts};
pub use self::state_watch::StateWatch;
pub use self::target::{DEFAULT_PORT, Target};
#[cfg(feature = "tls")]
pub use self::tls::ClientTls;
