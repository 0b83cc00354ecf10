//! `round_robin`: a connection to every address, and RPCs to those that are
//! ready, in turn, in the order given. An address that stands n times gets n
//! turns a round: that is how a balancer's list carries weights.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;

use super::{Output, Pick, PickArgs, Picked, Picker, Policy};
use crate::endpoint::Endpoint;
use crate::subchannel::{Connection, Pool, Subchannel, SubchannelState};

/// gRPC's `round_robin`.
#[derive(Debug)]
pub struct RoundRobin {
    turns: Vec<Turn>,
    /// Each subchannel of `turns` once.
    subchannels: Vec<Subchannel>,
    /// What `output` was made of.
    situation: Situation,
    output: Output,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct Turn {
    subchannel: usize,
    lb_token: Option<HeaderValue>,
}

#[derive(Debug, PartialEq)]
enum Situation {
    Empty,
    Waiting,
    Failed(Arc<str>),
    /// Per subchannel its connection, if it has one.
    Ready(Vec<Option<Connection>>),
}

impl RoundRobin {
    /// Starts at an entry that `rng` chooses, for each picker anew: clients that
    /// all began at the first entry would all call the same backend first.
    #[must_use]
    pub fn new(rng: fastrand::Rng) -> Self {
        Self {
            turns: vec![],
            subchannels: vec![],
            situation: Situation::Empty,
            output: Output::connecting(),
            rng,
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
        Situation::Failed(last.unwrap_or_else(|| "no attempt has ended yet".into()))
    }

    fn publish(&mut self) {
        self.output = match &self.situation {
            Situation::Empty | Situation::Failed(_) => Output::failure(self.failure()),
            Situation::Waiting => Output::connecting(),
            Situation::Ready(connections) => {
                let turns = self.turns.iter();
                let ready: Box<[_]> = turns
                    .filter_map(|turn| {
                        Some(ReadyTurn {
                            connection: connections[turn.subchannel].clone()?,
                            lb_token: turn.lb_token.clone(),
                        })
                    })
                    .collect();
                let first = AtomicUsize::new(self.rng.usize(..ready.len()));
                Output::ready(RoundRobinPicker { ready, next: first })
            }
        };
    }
}

impl Policy for RoundRobin {
    fn update(&mut self, endpoints: Vec<Endpoint>, pool: &mut Pool) {
        let mut subchannels: Vec<Subchannel> = vec![];
        let mut places = HashMap::new();
        self.turns = endpoints
            .into_iter()
            .map(|endpoint| Turn {
                subchannel: *places
                    .entry(endpoint.address)
                    .or_insert_with_key(|address| {
                        subchannels.push(pool.acquire(address));
                        subchannels.len() - 1
                    }),
                lb_token: endpoint.lb_token,
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

#[derive(Debug)]
struct RoundRobinPicker {
    ready: Box<[ReadyTurn]>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct ReadyTurn {
    connection: Connection,
    lb_token: Option<HeaderValue>,
}

impl Picker for RoundRobinPicker {
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.ready.len();
        let turn = &self.ready[turn];
        Pick::Complete(Picked {
            lb_token: turn.lb_token.as_ref(),
            ..Picked::from(&turn.connection)
        })
    }
}
