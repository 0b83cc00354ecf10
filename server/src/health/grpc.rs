//! The check by `grpc.health.v1`, over the backend's subchannel.
//!
//! `Watch` brings what a backend says of itself at once; `Check`, once in an
//! interval beside it, shows that it still says anything: HTTP/2 pings would do
//! too, but gRPC's servers end connections that are pinged more often than every
//! five minutes. Where there is no `Watch`, `Check` is all; where there is neither,
//! a backend is healthy while it is connected, as to gRPC's own clients.

use std::future::pending;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use lookaside_client::Channel;
use lookaside_proto::health_v1::health_check_response::ServingStatus;
use lookaside_proto::health_v1::health_client::HealthClient;
use lookaside_proto::health_v1::{HealthCheckRequest, HealthCheckResponse};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};
use tracing::info;

use super::probing::Probing;
use super::tracker::Finding;
use crate::subchannel::{NotOpened, State, Subchannel};
use crate::telemetry::printable;
use crate::wait::{NoAnswer, if_any, within};

/// Characters of a backend's own message that go into the log.
const MAX_QUOTE: usize = 200;

/// An answer of one number is no longer.
const MAX_ANSWER: usize = 4096;

/// Between two statuses that are taken from a backend: one that floods waits.
const LEAST_BETWEEN: std::time::Duration = std::time::Duration::from_millis(50);

/// A check of one backend.
pub(super) struct Check {
    pub(super) probing: Probing,
    pub(super) subchannel: Subchannel,
    /// Whose health is asked for.
    pub(super) service: String,
    /// Whether it was logged that the backend has no health service.
    pub(super) logged: bool,
}

/// Why asking in one way ended.
enum WatchEnd {
    /// The backend does not have the method.
    Unimplemented,
    /// It is worth trying again.
    Failed,
}

impl Check {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let mut states = self.subchannel.states();
        // When the connection that is missing counts as missing (again).
        let mut late = Instant::now() + self.probing.config.timeout;
        // Before the first connection it may be us who have not come to it yet.
        let mut was_connected = false;
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                State::Ready(ready) => {
                    was_connected = true;
                    self.ask(&ready.channel, &mut states).await;
                    late = Instant::now() + self.probing.config.timeout;
                    if states.borrow().ready().is_none() {
                        self.probing.found(Finding::Doubt, "");
                    }
                    continue;
                }
                State::Failed(NotOpened::Refused) => {
                    let why = NotOpened::Refused.to_string();
                    self.probing.found(Finding::Refused, &why);
                    late = Instant::now() + self.probing.interval();
                    tokio::select! {
                        _ = states.changed() => {}
                        () = self.probing.suspected.notified() => self.subchannel.hurry(),
                    }
                    continue;
                }
                State::Idle | State::Connecting => {}
                State::Failed(NotOpened::Late) if Instant::now() >= late => {
                    late = Instant::now() + self.probing.pause();
                    self.probing.found(Finding::Late, "");
                    continue;
                }
                State::Failed(NotOpened::OwnFault(_)) if Instant::now() >= late => {
                    late = Instant::now() + self.probing.pause();
                    self.probing.found(Finding::OwnFault, "");
                    continue;
                }
                State::Failed(NotOpened::Failed(ref reason)) if Instant::now() >= late => {
                    late = Instant::now() + self.probing.pause();
                    self.probing.found(Finding::Failed, reason);
                    continue;
                }
                State::Failed(_) => {}
            }
            tokio::select! {
                _ = states.changed() => {
                    let begins = matches!(*states.borrow(), State::Connecting);
                    if begins && matches!(state, State::Idle) {
                        late = Instant::now() + self.probing.config.timeout;
                    }
                }
                missed = missing(&state, late) => if let Some(missed) = missed {
                    late = Instant::now() + self.probing.pause();
                    if was_connected {
                        self.probing.found(missed.into(), "it takes no connection");
                    }
                },
                () = self.probing.suspected.notified() => {
                    self.probing.found(Finding::Doubt, "");
                    self.subchannel.hurry();
                }
            }
        }
    }

    /// Asks over this connection, until it is not the subchannel's any more.
    async fn ask(&mut self, channel: &Channel, states: &mut watch::Receiver<State>) {
        tokio::select! {
            biased;
            _ = states.changed() => {}
            () = self.ask_on(channel) => {}
        }
    }

    async fn ask_on(&mut self, channel: &Channel) {
        while let WatchEnd::Failed = self.watch(channel).await {
            let pause = self.probing.pause();
            self.probing.rest(pause).await;
        }
        let WatchEnd::Unimplemented = self.poll(channel).await else {
            return;
        };
        if !self.logged {
            self.logged = true;
            let backend = self.probing.findings.backend();
            info!(%backend, "it has no grpc.health.v1.Health: it is healthy while it is connected");
        }
        loop {
            self.probing.found(Finding::Good, "");
            self.probing.suspected.notified().await;
            self.probing.found(Finding::Doubt, "");
            let patience = self.probing.config.timeout;
            let pace = Arc::clone(&self.probing.pace);
            while let Err(silent) = pace.ask(patience, check(channel, &self.service)).await {
                self.probing.found(silent.into(), "no answer");
                let pause = self.probing.pause();
                self.probing.rest(pause).await;
            }
        }
    }

    /// Follows what the backend says by `Watch`, and looks whether it is alive.
    async fn watch(&mut self, channel: &Channel) -> WatchEnd {
        let patience = self.probing.config.timeout;
        let mut client = HealthClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let pace = Arc::clone(&self.probing.pace);
        let opened = pace.ask(patience, async {
            let request = HealthCheckRequest {
                service: self.service.clone(),
            };
            let mut statuses = client.watch(request).await?.into_inner();
            let first = statuses.message().await?;
            Ok::<_, Status>((statuses, first))
        });
        let (mut statuses, first) = match opened.await {
            Ok(Ok((statuses, Some(first)))) => (statuses, first),
            Ok(Ok((_, None))) => {
                self.probing
                    .found(Finding::Failed, "Watch ended without a status");
                return WatchEnd::Failed;
            }
            Ok(Err(status)) => return self.refused(&status),
            Err(silent) => {
                self.probing.found(silent.into(), "no answer to Watch");
                return WatchEnd::Failed;
            }
        };
        let mut serving = self.told(&first);
        let mut read_at = Instant::now() + LEAST_BETWEEN;
        let mut look_at = Instant::now() + self.probing.first_pause();
        let mut look: Option<BoxFuture<'static, Liveness>> = None;
        loop {
            let next = async {
                sleep_until(read_at).await;
                statuses.message().await
            };
            let due = async {
                tokio::select! {
                    () = sleep_until(look_at) => false,
                    () = self.probing.suspected.notified() => true,
                }
            };
            tokio::select! {
                message = next => match message {
                    Ok(Some(status)) => {
                        serving = self.told(&status);
                        read_at = Instant::now() + LEAST_BETWEEN;
                    }
                    Ok(None) => {
                        self.probing.found(Finding::Doubt, "");
                        return WatchEnd::Failed;
                    }
                    Err(status) if status.code() == Code::Unimplemented => {
                        return WatchEnd::Unimplemented;
                    }
                    Err(_) => {
                        // If the connection broke, the subchannel says so.
                        self.probing.found(Finding::Doubt, "");
                        return WatchEnd::Failed;
                    }
                },
                found = if_any(look.as_mut()) => {
                    look = None;
                    match found {
                        Liveness::Alive if serving => self.probing.found(Finding::Good, ""),
                        Liveness::Alive | Liveness::Unclear => {}
                        Liveness::Silent(silent) => self.probing.found(silent.into(), "no answer"),
                    }
                }
                suspected = due => {
                    if suspected {
                        self.probing.found(Finding::Doubt, "");
                    }
                    look_at = Instant::now() + self.probing.pause();
                    if suspected || look.is_none() {
                        let (channel, service) = (channel.clone(), self.service.clone());
                        let pace = Arc::clone(&pace);
                        look = Some(Box::pin(async move {
                            match pace.ask(patience, check(&channel, &service)).await {
                                Ok(answer) => Liveness::of(answer),
                                Err(silent) => Liveness::Silent(silent),
                            }
                        }));
                    }
                }
            }
        }
    }

    /// Asks by `Check`, again and again.
    async fn poll(&mut self, channel: &Channel) -> WatchEnd {
        loop {
            let patience = self.probing.config.timeout;
            let pace = Arc::clone(&self.probing.pace);
            match pace.ask(patience, check(channel, &self.service)).await {
                Ok(Ok(answer)) => {
                    self.told(&answer);
                }
                Ok(Err(status)) => {
                    if let WatchEnd::Unimplemented = self.refused(&status) {
                        return WatchEnd::Unimplemented;
                    }
                }
                Err(silent) => self.probing.found(silent.into(), "no answer to Check"),
            }
            let pause = self.probing.pause();
            self.probing.rest(pause).await;
        }
    }

    /// The backend says how it is; whether it is well.
    fn told(&mut self, answer: &HealthCheckResponse) -> bool {
        let status = ServingStatus::try_from(answer.status);
        let serving = status == Ok(ServingStatus::Serving);
        if serving {
            self.probing.found(Finding::Good, "");
        } else {
            let status = status.map_or("a status that does not exist", |s| s.as_str_name());
            self.probing.found(Finding::NotServing, status);
        }
        serving
    }

    /// The call did not succeed.
    fn refused(&mut self, status: &Status) -> WatchEnd {
        match status.code() {
            Code::Unimplemented => return WatchEnd::Unimplemented,
            Code::NotFound => self.probing.found(Finding::NotServing, "SERVICE_UNKNOWN"),
            code => {
                let why = printable(status.message(), MAX_QUOTE);
                let why = format!("{code:?}: {why}");
                self.probing.found(Finding::Failed, &why);
            }
        }
        WatchEnd::Failed
    }
}

/// Whether a backend answers anything at all.
enum Liveness {
    Alive,
    /// It may be the connection that ended.
    Unclear,
    Silent(NoAnswer),
}

impl Liveness {
    fn of(answer: Result<HealthCheckResponse, Status>) -> Self {
        match answer.map_err(|status| status.code()) {
            Ok(_) | Err(Code::Unimplemented | Code::NotFound | Code::PermissionDenied) => {
                Self::Alive
            }
            Err(_) => Self::Unclear,
        }
    }
}

/// Waits until the connection that is not there counts as missing, if it does.
async fn missing(state: &State, late: Instant) -> Option<NoAnswer> {
    match state {
        State::Connecting => {
            let patience = late.saturating_duration_since(Instant::now());
            within(patience, pending::<()>()).await.err()
        }
        State::Failed(_) => {
            sleep_until(late).await;
            None
        }
        // Not its affair, or there is one.
        State::Idle | State::Ready(_) => pending().await,
    }
}

async fn check(channel: &Channel, service: &str) -> Result<HealthCheckResponse, Status> {
    let mut client = HealthClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    client.check(request).await.map(tonic::Response::into_inner)
}
