//! What policies that use many backends have in common: a connection to every
//! address, and a picker over those that are ready. `round_robin`, `random` and
//! `weighted` differ in that picker only, and so may a policy of one's own.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::{Output, Picked, Picker, Policy};
use crate::endpoint::Endpoint;
use crate::error::ConnectError;
use crate::subchannel::{Connection, Pool, Subchannel, SubchannelState};

/// A policy that connects to every address, and lets `B` build a picker over
/// those that are ready whenever they change.
///
/// RPCs wait while no address is ready and at least one has not been tried yet,
/// and fail while all have failed. What is draining is left out as long as
/// something else is ready.
pub struct Spread<B> {
    build: B,
    turns: Vec<Turn>,
    /// Each subchannel of `turns` once.
    subchannels: Vec<Subchannel>,
    /// What `output` was made of.
    situation: Situation,
    output: Output,
}

/// Builds the picker over the endpoints that are ready. Closures do.
pub trait BuildPicker: Send {
    /// What it builds.
    type Picker: Picker + 'static;

    /// The picker over `ready`: at least one endpoint, in the list's order, and
    /// as often as it is listed.
    fn build(&mut self, ready: Vec<Ready>) -> Self::Picker;
}

impl<F, P> BuildPicker for F
where
    F: FnMut(Vec<Ready>) -> P + Send,
    P: Picker + 'static,
{
    type Picker = P;

    fn build(&mut self, ready: Vec<Ready>) -> P {
        self(ready)
    }
}

/// An endpoint that has a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ready {
    /// What the resolver or the balancer says of it.
    pub endpoint: Endpoint,
    /// The connection to its address.
    pub connection: Connection,
}

impl Ready {
    /// A pick of this endpoint, for [`Pick::Complete`](super::Pick::Complete).
    #[must_use]
    pub fn picked(&self) -> Picked<'_> {
        Picked {
            lb_token: self.endpoint.lb_token.as_ref(),
            ..Picked::from(&self.connection)
        }
    }
}

#[derive(Debug)]
struct Turn {
    endpoint: Endpoint,
    subchannel: usize,
}

#[derive(Debug, PartialEq)]
enum Situation {
    Empty,
    Waiting,
    Failed(Arc<ConnectError>),
    /// Per subchannel its connection, if it has one.
    Ready(Vec<Option<Connection>>),
}

impl<B: BuildPicker> Spread<B> {
    /// Without addresses yet.
    #[must_use]
    pub fn with(build: B) -> Self {
        Self {
            build,
            turns: vec![],
            subchannels: vec![],
            situation: Situation::Empty,
            output: Output::connecting(),
        }
    }

    /// Why RPCs fail, while they do.
    fn failure(&self) -> String {
        match &self.situation {
            Situation::Failed(last) => format!("none of the backends can be reached; {last}"),
            _ => "there are no addresses to call".to_owned(),
        }
    }

    fn look(&self, pool: &mut Pool) -> Situation {
        if self.turns.is_empty() {
            return Situation::Empty;
        }
        let mut waiting = false;
        let connections: Vec<_> = self
            .subchannels
            .iter()
            .map(|subchannel| {
                pool.connect(subchannel);
                match pool.state(subchannel) {
                    SubchannelState::Ready(connection) => return Some(connection),
                    // One that failed counts as failed until it is ready, also
                    // while it tries again: a channel that reaches nothing should
                    // not alternate between failing RPCs and making them wait.
                    SubchannelState::Connecting => {
                        waiting |= pool.last_error(subchannel).is_none();
                    }
                    _ => {}
                }
                None
            })
            .collect();
        if connections.iter().any(Option::is_some) {
            return Situation::Ready(connections);
        }
        if waiting {
            return Situation::Waiting;
        }
        let errors = self.subchannels.iter().rev();
        let last = errors
            .filter_map(|subchannel| pool.last_error(subchannel))
            .next();
        Situation::Failed(
            last.unwrap_or_else(|| Arc::new(ConnectError::other("no attempt has ended yet"))),
        )
    }

    fn publish(&mut self) {
        self.output = match &self.situation {
            Situation::Empty => Output::failure(self.failure()),
            Situation::Failed(last) => Output::failed_by(self.failure(), Some(Arc::clone(last))),
            Situation::Waiting => Output::connecting(),
            Situation::Ready(connections) => {
                let turns = self.turns.iter();
                let mut ready: Vec<_> = turns
                    .filter_map(|turn| {
                        Some(Ready {
                            connection: connections[turn.subchannel].clone()?,
                            endpoint: turn.endpoint.clone(),
                        })
                    })
                    .collect();
                if ready.iter().any(|ready| !ready.endpoint.draining) {
                    ready.retain(|ready| !ready.endpoint.draining);
                }
                Output::ready(self.build.build(ready))
            }
        };
    }
}

impl<B: BuildPicker> Policy for Spread<B> {
    fn update(&mut self, endpoints: Vec<Endpoint>, pool: &mut Pool) {
        let mut subchannels: Vec<Subchannel> = vec![];
        let mut places = HashMap::new();
        self.turns = endpoints
            .into_iter()
            .map(|endpoint| Turn {
                subchannel: *places
                    .entry(endpoint.address.clone())
                    .or_insert_with_key(|address| {
                        subchannels.push(pool.acquire(address));
                        subchannels.len() - 1
                    }),
                endpoint,
            })
            .collect();
        self.subchannels = subchannels;
        self.situation = self.look(pool);
        self.publish();
    }

    fn refresh(&mut self, pool: &mut Pool) -> bool {
        let now = self.look(pool);
        let changed = now != self.situation;
        if changed {
            self.situation = now;
            self.publish();
        }
        changed
    }

    fn output(&self) -> Output {
        self.output.clone()
    }
}

/// Without `B`, which may be a closure.
impl<B> fmt::Debug for Spread<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spread")
            .field("turns", &self.turns.len())
            .field("subchannels", &self.subchannels)
            .field("situation", &self.situation)
            .finish_non_exhaustive()
    }
}
