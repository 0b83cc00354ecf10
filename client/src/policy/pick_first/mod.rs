//! `pick_first`, gRPC's default: the first address that answers gets every RPC,
//! until its connection ends.
//!
//! ```text
//!            update                    one is ready
//!   Empty ───────────► first pass ─────────────────────► Connected
//!                        │      ▲                          │   ▲
//!        all have failed │      │ its connection ends, or  │   │ one is ready
//!                        ▼      └─ it is no longer listed ─┘   │
//!                      all again, each after its backoff ──────┘
//! ```
//!
//! Addresses are tried as gRFC A61 has it ("happy eyeballs", RFC 8305): in turn
//! of their families, one every 250 ms while nothing has come of the ones before,
//! or at once when the newest attempt fails. An address that swallows packets so
//! costs 250 ms, where waiting for it to fail would cost 20 s.

mod order;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use self::order::{interleaved, once_each};
use super::{ConnectivityState, Output, Pick, PickArgs, Picked, Picker, Policy};
use crate::endpoint::Endpoint;
use crate::error::ConnectError;
use crate::service_config::PickFirstConfig;
use crate::subchannel::{Connection, Pool, Subchannel, SubchannelState};

/// gRPC's `pick_first`.
///
/// A connected address that is still listed keeps its connection when the list
/// changes. When no address can be reached, RPCs fail with the last reason, also
/// while addresses are tried again, until one can.
#[derive(Debug)]
pub struct PickFirst {
    config: PickFirstConfig,
    attempt_delay: Duration,
    rng: fastrand::Rng,
    /// In the order to try them, each address once.
    endpoints: Vec<Endpoint>,
    stage: Stage,
    output: Output,
}

#[derive(Debug)]
enum Stage {
    Empty,
    Trying(Attempts),
    Connected(Subchannel, Connection),
}

/// What has come of the addresses so far.
#[derive(Debug)]
struct Attempts {
    /// One for each endpoint.
    subchannels: Vec<Subchannel>,
    /// Which of the first ones have failed since they were started; the others
    /// have not been started yet.
    failed: Vec<bool>,
    /// When the next one is started, if nothing comes of the newest.
    next_at: Option<Instant>,
    /// Whether all have failed at least once.
    pass_over: bool,
    /// Why RPCs fail, once they do.
    reason: Option<Arc<ConnectError>>,
}

impl PickFirst {
    /// Time between the starts of two attempts, while nothing has come of the
    /// first: RFC 8305's and gRPC's "Connection Attempt Delay".
    pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

    /// Without addresses yet, and with gRPC's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::with_config(PickFirstConfig::default(), fastrand::Rng::new())
    }

    /// Without addresses yet. `rng` shuffles them, if `config` says so (gRFC A62).
    #[must_use]
    pub fn with_config(config: PickFirstConfig, rng: fastrand::Rng) -> Self {
        Self {
            config,
            attempt_delay: Self::ATTEMPT_DELAY,
            rng,
            endpoints: vec![],
            stage: Stage::Empty,
            output: Output::connecting(),
        }
    }

    /// Waits `delay` instead of [`PickFirst::ATTEMPT_DELAY`] before the next
    /// address is tried as well. Less than 100 ms counts as 100 ms and more than
    /// 2 s as 2 s, the bounds that RFC 8305 sets.
    #[must_use]
    pub fn attempt_delay(mut self, delay: Duration) -> Self {
        self.attempt_delay = delay.clamp(Duration::from_millis(100), Duration::from_secs(2));
        self
    }

    /// Why RPCs fail, while they do.
    fn failure(&self) -> String {
        match &self.stage {
            Stage::Trying(Attempts {
                reason: Some(last), ..
            }) => format!("none of the backends can be reached; {last}"),
            _ => "there are no addresses to call".to_owned(),
        }
    }

    fn failed(&self) -> Output {
        let cause = match &self.stage {
            Stage::Trying(attempts) => attempts.reason.clone(),
            _ => None,
        };
        Output::failed_by(self.failure(), cause)
    }

    /// Takes what the pool knows into account. Says whether the output changed.
    fn evaluate(&mut self, pool: &mut Pool) -> bool {
        let mut changed = false;
        if let Stage::Connected(subchannel, connection) = &self.stage {
            if matches!(pool.state(subchannel), SubchannelState::Ready(now) if now == *connection) {
                return false;
            }
            self.start(pool);
            self.output = Output::connecting();
            changed = true;
        }
        let Stage::Trying(attempts) = &mut self.stage else {
            return changed;
        };
        if let Some((place, connection)) = attempts.winner(pool) {
            self.connected(place, connection, pool);
            return true;
        }
        attempts.go_on(self.attempt_delay, pool);
        if attempts.pass_over && attempts.fail(pool) {
            self.output = self.failed();
            changed = true;
        }
        changed
    }

    /// Starts the first pass over the addresses.
    fn start(&mut self, pool: &mut Pool) {
        let addresses = self.endpoints.iter().map(|endpoint| &endpoint.address);
        self.stage = Stage::Trying(Attempts {
            subchannels: addresses.map(|address| pool.acquire(address)).collect(),
            failed: vec![],
            next_at: None,
            pass_over: false,
            reason: None,
        });
    }

    /// Stays with the address at `place`, and gives up the other attempts.
    fn connected(&mut self, place: usize, connection: Connection, pool: &mut Pool) {
        self.send_to(&connection, self.endpoints[place].lb_token.clone());
        let Stage::Trying(attempts) = std::mem::replace(&mut self.stage, Stage::Empty) else {
            return;
        };
        for (at, subchannel) in attempts.subchannels.into_iter().enumerate() {
            if at == place {
                self.stage = Stage::Connected(subchannel, connection.clone());
            } else {
                pool.discard(subchannel);
            }
        }
    }

    fn send_to(&mut self, connection: &Connection, lb_token: Option<HeaderValue>) {
        self.output = Output::ready(Chosen {
            connection: connection.clone(),
            lb_token,
        });
    }
}

impl Attempts {
    /// The first address that has a connection.
    fn winner(&self, pool: &Pool) -> Option<(usize, Connection)> {
        let subchannels = self.subchannels.iter().enumerate();
        subchannels
            .filter_map(|(place, subchannel)| match pool.state(subchannel) {
                SubchannelState::Ready(connection) => Some((place, connection)),
                _ => None,
            })
            .next()
    }

    /// Goes on with the first pass as far as it can go now.
    fn go_on(&mut self, delay: Duration, pool: &mut Pool) {
        if self.pass_over {
            return;
        }
        for (subchannel, failed) in self.subchannels.iter().zip(&mut self.failed) {
            // Whatever is idle had a connection that did not last.
            *failed |= !matches!(pool.state(subchannel), SubchannelState::Connecting);
        }
        let now = Instant::now();
        while let Some(subchannel) = self.subchannels.get(self.failed.len()) {
            let newest_failed = self.failed.last().is_none_or(|failed| *failed);
            if !newest_failed && self.next_at.is_some_and(|at| now < at) {
                break;
            }
            // One that waits for the end of its backoff has failed just now, for
            // somebody else; its reason is as good as a new one.
            pool.connect(subchannel);
            let state = pool.state(subchannel);
            self.failed
                .push(!matches!(state, SubchannelState::Connecting));
            self.next_at = Some(now + delay);
        }
        if self.failed.len() == self.subchannels.len() {
            self.next_at = None;
            self.pass_over = self.failed.iter().all(|failed| *failed);
        }
    }

    /// Tries again whatever can be tried. Says whether there is a new reason why
    /// RPCs fail.
    fn fail(&mut self, pool: &mut Pool) -> bool {
        for subchannel in &self.subchannels {
            pool.connect(subchannel);
        }
        let errors = self.subchannels.iter().rev();
        let last = errors
            .filter_map(|subchannel| pool.last_error(subchannel))
            .next()
            .unwrap_or_else(|| {
                let reason = "connections end as soon as they are open";
                Arc::new(ConnectError::other(reason))
            });
        let changed = self.reason.as_ref() != Some(&last);
        self.reason = Some(last);
        changed
    }
}

impl Default for PickFirst {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for PickFirst {
    fn update(&mut self, mut endpoints: Vec<Endpoint>, pool: &mut Pool) {
        if self.config.shuffle_address_list {
            self.rng.shuffle(&mut endpoints);
        }
        self.endpoints = interleaved(once_each(endpoints));
        if let Stage::Connected(subchannel, connection) = &self.stage {
            let known = self.endpoints.iter();
            let mut same = known.filter(|endpoint| endpoint.address == *subchannel.address());
            if let Some(endpoint) = same.next() {
                // The connection stays; the token is the one it has now.
                let (connection, lb_token) = (connection.clone(), endpoint.lb_token.clone());
                self.send_to(&connection, lb_token);
                self.evaluate(pool);
                return;
            }
        }
        if self.endpoints.is_empty() {
            self.stage = Stage::Empty;
            self.output = Output::failure(self.failure());
            return;
        }
        self.start(pool);
        // RPCs that fail go on to fail until there is a connection: a channel that
        // reaches nothing should not alternate between that and making them wait.
        if self.output.state != ConnectivityState::TransientFailure {
            self.output = Output::connecting();
        }
        self.evaluate(pool);
    }

    fn refresh(&mut self, pool: &mut Pool) -> bool {
        self.evaluate(pool)
    }

    fn next_due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Trying(attempts) => attempts.next_at,
            Stage::Empty | Stage::Connected(..) => None,
        }
    }

    fn output(&self) -> Output {
        self.output.clone()
    }
}

#[derive(Debug)]
struct Chosen {
    connection: Connection,
    lb_token: Option<HeaderValue>,
}

impl Picker for Chosen {
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        Pick::Complete(Picked {
            lb_token: self.lb_token.as_ref(),
            ..Picked::from(&self.connection)
        })
    }
}
