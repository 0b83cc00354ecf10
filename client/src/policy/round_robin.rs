//! `round_robin`: a connection to every address, and RPCs to those that are
//! ready, in turn, in the order given. An address that stands n times gets n
//! turns a round: that is how a balancer's list carries weights.

use http::HeaderValue;

use super::{BuildPicker, Pick, PickArgs, Picked, Picker, Position, Ready, Spread};
use crate::subchannel::Connection;

/// gRPC's `round_robin`.
pub type RoundRobin = Spread<RoundRobinPickers>;

impl RoundRobin {
    /// Starts at an entry that `rng` chooses, for each picker anew: clients that
    /// all began at the first entry would all call the same backend first.
    #[must_use]
    pub fn new(rng: fastrand::Rng) -> Self {
        Self::with(RoundRobinPickers { rng })
    }
}

/// Builds the pickers of [`RoundRobin`].
#[derive(Debug)]
pub struct RoundRobinPickers {
    rng: fastrand::Rng,
}

impl BuildPicker for RoundRobinPickers {
    type Picker = RoundRobinPicker;

    fn build(&mut self, ready: Vec<Ready>) -> RoundRobinPicker {
        RoundRobinPicker {
            next: Position::new(self.rng.u64(..ready.len() as u64)),
            ready: ready.into_iter().map(Turn::from).collect(),
        }
    }
}

/// Picks in turn.
#[derive(Debug)]
pub struct RoundRobinPicker {
    ready: Box<[Turn]>,
    next: Position,
}

/// What a pick needs of an endpoint, and no more: long lists should stay in the
/// caches.
#[derive(Debug)]
struct Turn {
    connection: Connection,
    lb_token: Option<HeaderValue>,
}

impl From<Ready> for Turn {
    fn from(ready: Ready) -> Self {
        Self {
            connection: ready.connection,
            lb_token: ready.endpoint.lb_token,
        }
    }
}

impl Picker for RoundRobinPicker {
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        let turn = &self.ready[self.next.turn(self.ready.len())];
        Pick::Complete(Picked {
            lb_token: turn.lb_token.as_ref(),
            ..Picked::from(&turn.connection)
        })
    }
}
