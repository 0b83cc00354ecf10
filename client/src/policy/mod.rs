//! Load balancing policies: which connection the next RPC takes.
//!
//! A [`Policy`] lives in the channel's control task. It is told of addresses
//! and of subchannels that changed, asks subchannels to connect, and publishes
//! a [`Picker`]. The picker is what an RPC meets: immutable, shared by all
//! threads, and without locks.
//!
//! | policy | who gets the next RPC |
//! |---|---|
//! | [`PickFirst`], the default | the first address that could be reached, until its connection ends |
//! | [`RoundRobin`] | all that are ready, in turn; who is listed twice gets two turns |
//! | [`Random`] | any that is ready |
//! | [`Weighted`] | all that are ready, evenly mixed by [`Endpoint::weight`] |
//! | [`Spread`] | whoever a picker of one's own says, of all that are ready |
//!
//! # A policy of one's own
//!
//! Most policies connect to every address and differ in how they choose. Such a
//! policy is a picker, and [`Spread`] does the rest. This one keeps the RPCs of a
//! user on one backend:
//!
//! ```
//! use std::hash::{DefaultHasher, Hash, Hasher};
//!
//! use lookaside_client::Channel;
//! use lookaside_client::policy::{Pick, PickArgs, Picker, Ready, Spread};
//!
//! #[derive(Debug)]
//! struct ByUser(Vec<Ready>);
//!
//! impl Picker for ByUser {
//!     fn pick(&self, args: &PickArgs<'_>) -> Pick<'_> {
//!         let mut hash = DefaultHasher::new();
//!         args.headers().get("user").hash(&mut hash);
//!         // Never empty: RPCs meet another picker while nothing is ready.
//!         let choice = hash.finish() as usize % self.0.len();
//!         Pick::Complete(self.0[choice].picked())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), lookaside_client::Error> {
//! let channel = Channel::builder("static:127.0.0.1:50051,127.0.0.1:50052")
//!     .policy(|_rng| Box::new(Spread::with(ByUser)))
//!     .connect_lazy()?;
//! # Ok(()) }
//! ```
//!
//! A picker that wants to know when RPCs end names a [`CallTracker`] in its
//! [`Picked`]; one that keeps something from one set of backends to the next has
//! it in a [`BuildPicker`]. `examples/src/bin/custom_policy.rs` does both, and
//! `orca_policy.rs` goes by what backends report of their load. A policy
//! that is not to connect to every address implements [`Policy`] itself, on the
//! subchannels of a [`Pool`].

mod pick_first;
mod position;
mod random;
mod round_robin;
mod spread;
#[cfg(test)]
mod tests;
mod tracker;
mod weighted;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Uri};
use tokio::time::Instant;
use tonic::Status;

pub use self::pick_first::PickFirst;
pub(crate) use self::position::Position;
pub use self::random::{Random, RandomPicker, RandomPickers};
pub use self::round_robin::{RoundRobin, RoundRobinPicker, RoundRobinPickers};
pub use self::spread::{BuildPicker, Ready, Spread};
pub use self::tracker::{CallEnd, CallTracker};
pub use self::weighted::{Weighted, WeightedPicker, WeightedPickers};
pub use crate::endpoint::ConnectivityState;
use crate::endpoint::Endpoint;
use crate::error::ConnectError;
use crate::subchannel::{Connection, Pool};

/// Decides which connections there are, and how RPCs are spread over them.
pub trait Policy: Send + fmt::Debug {
    /// The addresses are these from now on, in this order, repeated where one is
    /// to get more turns. May be empty.
    fn update(&mut self, endpoints: Vec<Endpoint>, pool: &mut Pool);

    /// Some subchannel changed its state. Says whether [`Policy::output`] did.
    fn refresh(&mut self, pool: &mut Pool) -> bool;

    /// When to call [`Policy::refresh`] next, even if no subchannel changes until
    /// then: a policy's timer. Asked after every other call.
    fn next_due(&self) -> Option<Instant> {
        None
    }

    /// What RPCs meet now.
    fn output(&self) -> Output;
}

/// What a policy publishes.
#[derive(Debug, Clone)]
pub struct Output {
    /// The state that the picker stands for.
    pub state: ConnectivityState,
    /// Answers RPCs until the next output.
    pub picker: Arc<dyn Picker>,
}

/// Chooses a connection for each RPC. Called on the RPC's own thread: it must not
/// block, and should not lock.
pub trait Picker: Send + Sync + fmt::Debug {
    /// Where this RPC goes.
    fn pick(&self, args: &PickArgs<'_>) -> Pick<'_>;

    /// Why RPCs fail, if this picker fails all that do not wait for ready. For logs
    /// and error texts.
    fn failure(&self) -> Option<&str> {
        None
    }

    /// The connection's or the resolver's failure behind [`Picker::failure`], if that is
    /// it.
    fn cause(&self) -> Option<&Arc<ConnectError>> {
        None
    }
}

/// The RPC that a connection is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct PickArgs<'a> {
    uri: &'a Uri,
    headers: &'a HeaderMap,
    past_drops: bool,
}

impl<'a> PickArgs<'a> {
    /// An RPC whose request has this URI and these headers.
    #[must_use]
    pub fn new(uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        Self {
            uri,
            headers,
            past_drops: false,
        }
    }

    /// The same RPC, which was picked before and not dropped, and looks for a backend
    /// that has room for it.
    #[must_use]
    pub(crate) fn past_drops(self) -> Self {
        Self {
            past_drops: true,
            ..self
        }
    }

    /// Whether it was decided already that a balancer does not drop the RPC.
    pub(crate) fn is_past_drops(&self) -> bool {
        self.past_drops
    }

    /// The method, as `/package.Service/Method`.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.uri.path()
    }

    /// The request's headers: the application's metadata, and what gRPC adds.
    #[must_use]
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }
}

/// A picker's answer, in gRPC's four kinds.
#[derive(Debug)]
pub enum Pick<'a> {
    /// Send the RPC.
    Complete(Picked<'a>),
    /// Wait for the next picker.
    Queue,
    /// Fail, unless the RPC is to wait for a ready connection.
    Fail(&'a Status),
    /// Fail in any case: the balancer says that this RPC is not to be sent.
    Drop(&'a Status),
}

/// A connection, and what comes along with it.
#[derive(Debug, Clone, Copy)]
pub struct Picked<'a> {
    /// Over this connection.
    pub connection: &'a Connection,
    /// Sent along as `lb-token`.
    pub lb_token: Option<&'a HeaderValue>,
    /// Told of the RPC's fate.
    pub tracker: Option<&'a Arc<dyn CallTracker>>,
}

impl<'a> From<&'a Connection> for Picked<'a> {
    fn from(connection: &'a Connection) -> Self {
        Self {
            connection,
            lb_token: None,
            tracker: None,
        }
    }
}

/// Makes every RPC wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueuePicker;

impl Picker for QueuePicker {
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        Pick::Queue
    }
}

/// Fails every RPC with one status.
#[derive(Debug, Clone)]
pub struct FailPicker {
    status: Status,
    cause: Option<Arc<ConnectError>>,
}

impl FailPicker {
    /// Fails with UNAVAILABLE and this reason.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self {
            status: Status::unavailable(reason),
            cause: None,
        }
    }

    /// The same by `cause`, which [`ConnectError::of`] finds in the status.
    #[must_use]
    pub fn by(mut self, cause: Arc<ConnectError>) -> Self {
        self.status.set_source(Arc::clone(&cause) as _);
        self.cause = Some(cause);
        self
    }
}

impl Picker for FailPicker {
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        Pick::Fail(&self.status)
    }

    fn failure(&self) -> Option<&str> {
        Some(self.status.message())
    }

    fn cause(&self) -> Option<&Arc<ConnectError>> {
        self.cause.as_ref()
    }
}

impl Output {
    /// RPCs wait, for connections that are on their way.
    #[must_use]
    pub fn connecting() -> Self {
        Self {
            state: ConnectivityState::Connecting,
            picker: Arc::new(QueuePicker),
        }
    }

    /// RPCs fail with UNAVAILABLE and this reason.
    #[must_use]
    pub fn failure(reason: impl Into<String>) -> Self {
        Self {
            state: ConnectivityState::TransientFailure,
            picker: Arc::new(FailPicker::unavailable(reason)),
        }
    }

    /// The same by `cause`, if there is one, which [`ConnectError::of`] finds in the
    /// status.
    #[must_use]
    pub fn failed_by(reason: impl Into<String>, cause: Option<Arc<ConnectError>>) -> Self {
        let picker = FailPicker::unavailable(reason);
        Self {
            state: ConnectivityState::TransientFailure,
            picker: Arc::new(match cause {
                Some(cause) => picker.by(cause),
                None => picker,
            }),
        }
    }

    /// RPCs are sent as `picker` says.
    #[must_use]
    pub fn ready(picker: impl Picker + 'static) -> Self {
        Self {
            state: ConnectivityState::Ready,
            picker: Arc::new(picker),
        }
    }
}
