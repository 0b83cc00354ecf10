//! Registration: telling balancers that this backend is there, how busy it is,
//! and that it is about to go.
//!
//! ```text
//!  targets ─► resolvers ─► addresses ─┬─► session ─► balancer 1
//!                                     └─► session ─► balancer 2
//! ```
//!
//! Balancers do not tell each other, so there is a session with each. A session
//! is a stream that is opened again, with backoff, whenever it ends.

mod builder;
mod drain;
mod lookup;
mod session;
mod status;

use std::sync::Arc;

use lookaside_proto::registration_v1 as pb;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::builder::{RegistrationBuilder, RegistrationError};
pub use self::drain::{DrainOptions, Drained};
use self::status::Board;
pub use self::status::{
    BalancerState, BalancerStatus, Registered, RegistrationStatus, TargetStatus,
};
use crate::load::Load;

/// This backend's registration with its balancers, for as long as it lives.
///
/// [`Self::drain`] or [`Self::leave`] ends it well. Dropped without, its streams
/// break off, and balancers keep the backend in their lists until they find it
/// dead or its lease is over.
#[derive(Debug)]
pub struct Registration {
    wanted: watch::Sender<Wanted>,
    board: Board,
    load: Load,
    /// Everything that runs; it ends with this.
    _tasks: JoinSet<()>,
}

/// What balancers should be told.
#[derive(Debug, Clone)]
struct Wanted {
    message: Arc<pb::Registration>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Leaving,
}

impl Registration {
    /// To register with the balancers of `target`: `dns:///lb.example.com:9000`
    /// (every address of that name is a balancer),
    /// `dns:///greeter.example.com` (if SRV `_grpclb._tcp.greeter.example.com`
    /// says where they are), or `static:10.0.0.5:9000,lb2.example.com:9000`. Names are
    /// looked up again by their TTL, at the latest after 30 s: a balancer that is
    /// added is registered with, and one that is gone is left.
    pub fn builder(target: impl Into<String>) -> RegistrationBuilder {
        RegistrationBuilder::new(target.into())
    }

    /// Waits until a balancer has taken the backend up for all of its services.
    ///
    /// # Errors
    /// If a balancer refuses it first, and none has taken it; or if none has answered
    /// within ten seconds, with the reason: the name cannot be looked up, say. It is
    /// tried again all the same, so that this can be called again, and a balancer that
    /// comes later is found.
    pub async fn registered(&self) -> Result<(), RegistrationError> {
        self.board.registered().await
    }

    /// How the registration is doing: each target, each balancer, and, by
    /// [`RegistrationStatus::reason`], why it is not registered.
    #[must_use]
    pub fn status(&self) -> RegistrationStatus {
        self.board.status()
    }

    /// How things are with each balancer.
    #[must_use]
    pub fn balancers(&self) -> Vec<BalancerStatus> {
        self.board.statuses()
    }

    /// Says another weight from now on, above 0 and at most 10⁶. The operator's, if
    /// the balancer's configuration has one, comes first.
    ///
    /// # Errors
    /// [`RegistrationError::Invalid`] if it is out of range; nothing changes then.
    pub fn set_weight(&self, weight: f64) -> Result<(), RegistrationError> {
        builder::check_weight(weight)?;
        self.wanted.send_modify(|wanted| {
            Arc::make_mut(&mut wanted.message).weight = Some(weight);
        });
        Ok(())
    }

    /// Registers again after [`Self::drain`] or [`Self::leave`], with the same
    /// weight: a shutdown that was called off. A drain that is under way has to be
    /// dropped before, as it would go on.
    pub fn resume(&self) {
        self.load.reopen();
        self.board.undrain();
        self.wanted
            .send_modify(|wanted| wanted.phase = Phase::Serving);
    }

    /// Says good-bye to every balancer, and waits up to a second for them to
    /// hear it. Without [`Self::drain`] before it, calls that are on their way
    /// may fail.
    pub async fn leave(&self) {
        self.enter(Phase::Leaving);
        let all_left = self.board.until(|statuses| statuses.is_empty());
        let _ = tokio::time::timeout(drain::GOODBYE, all_left).await;
    }

    fn enter(&self, phase: Phase) {
        self.wanted
            .send_modify(|wanted| wanted.phase = wanted.phase.max(phase));
    }
}
