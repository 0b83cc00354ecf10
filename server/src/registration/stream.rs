//! One stream of a backend.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use lookaside_proto::duration;
use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::Outcome;
use lookaside_proto::registration_v1::register_request::Message;
use lookaside_proto::registration_v1::register_response::Message as Answer;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};
use tracing::warn;

use super::admit::{Applicant, RegistrationKey, admit};
use super::claim::Claim;
use super::rules::{Caller, Rules, lease};
use super::service::StreamPermit;
use super::table::Owner;
use super::{Shared, bearer, drain, judge};
use crate::catalogue::BackendEvent;
use crate::net::Peer;
use crate::telemetry::printable;
use crate::wait::{if_any, within};
use lookaside_core::weights::ReportSource;

/// A backend has this long for its first message, as far as it could be read.
const FIRST_MESSAGE: Duration = Duration::from_secs(5);

/// Messages of one stream are read no faster than this; one that floods waits,
/// by HTTP/2's flow control, at its own end.
const PAUSE: Duration = Duration::from_millis(20);

/// Characters of a service's name that are quoted, where it may be anything.
const MAX_QUOTE: usize = 64;

/// A backend that registered, while its stream lasts.
pub(super) struct Backend {
    shared: Arc<Shared>,
    requests: Streaming<pb::RegisterRequest>,
    caller: Arc<Caller>,
    claim: Claim,
    owner: Arc<Owner>,
    rules: watch::Receiver<Arc<Rules>>,
    /// All who are registered were judged again.
    judged: watch::Receiver<u64>,
    /// Whether its certificate is still trusted.
    trusted: bool,
    /// Where it is registered.
    places: Vec<RegistrationKey>,
    /// How often it reports.
    interval: Duration,
    /// What it was told last.
    told: Option<pb::Registered>,
    answers: VecDeque<Answer>,
    /// Ends when no list has it any more.
    drained: Option<BoxFuture<'static, ()>>,
    draining: bool,
    next_read: Instant,
    /// The end that the balancer's own end is to it.
    shutdown: BoxFuture<'static, ()>,
    _permit: StreamPermit,
}

/// Why a stream ends.
enum End {
    Left,
    Broken(Status),
}

impl Backend {
    pub(super) async fn begin(
        shared: Arc<Shared>,
        request: Request<Streaming<pb::RegisterRequest>>,
    ) -> Result<Self, Status> {
        let peer = request.extensions().get::<Arc<Peer>>().map(Arc::clone);
        let peer = peer.ok_or_else(|| Status::internal("the peer's address is not known"))?;
        if shared.draining.is_cancelled() {
            return Err(shutting_down());
        }
        let token = request.metadata().get("authorization");
        let token = token.and_then(|value| bearer::token(value.to_str().ok()?));
        let caller = Arc::new(Caller {
            token: token.map(str::to_owned),
            peer,
        });
        let refuse = |status: Status| {
            shared.log_refusal(&caller, &status);
            status
        };
        let permit = StreamPermit::take(Arc::clone(&shared)).map_err(refuse)?;
        let mut requests = request.into_inner();
        let first = within(FIRST_MESSAGE, requests.message()).await;
        let first = first.map_err(|_| {
            refuse(Status::deadline_exceeded(format!(
                "no registration within {FIRST_MESSAGE:?}; it must be the first message"
            )))
        })?;
        let first = first.map_err(refuse)?;
        let Some(Message::Registration(message)) = first.and_then(|first| first.message) else {
            return Err(refuse(Status::invalid_argument(
                "the first message must be a registration",
            )));
        };
        let ip = caller.peer.addr.ip().to_canonical();
        let claim = Claim::read(message, ip);
        let claim = claim.map_err(|error| refuse(Status::invalid_argument(error.to_string())))?;
        let shutdown = {
            let (draining, over) = (shared.draining.clone(), shared.shutdown);
            async move {
                draining.cancelled().await;
                sleep(over.mul_f64(fastrand::f64())).await;
            }
        };
        let mut rules = shared.rules.subscribe();
        rules.mark_unchanged();
        let mut judged = shared.judged.subscribe();
        judged.mark_unchanged();
        let mut backend = Self {
            owner: Arc::new(Owner {
                id: shared.next_stream.fetch_add(1, Ordering::Relaxed),
                superseded: CancellationToken::new(),
            }),
            requests,
            caller,
            claim,
            rules,
            judged,
            trusted: true,
            places: Vec::new(),
            interval: Duration::ZERO,
            told: None,
            answers: VecDeque::new(),
            drained: None,
            draining: false,
            next_read: Instant::now(),
            shutdown: shutdown.boxed(),
            _permit: permit,
            shared,
        };
        backend.register().await;
        match backend.hopeless() {
            Some(status) => Err(status),
            None => Ok(backend),
        }
    }

    /// The next message for it; an error is the stream's end.
    pub(super) async fn next(&mut self) -> Option<Result<Answer, Status>> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Some(Ok(answer));
            }
            let read = async {
                sleep_until(self.next_read).await;
                self.requests.message().await
            };
            tokio::select! {
                read = read => {
                    self.next_read = Instant::now() + PAUSE;
                    let end = match read {
                        Ok(Some(request)) => self.take(request).await.err(),
                        // It broke off without a good-bye: half-closed or gone.
                        Ok(None) => Some(End::Broken(Status::cancelled(
                            "the stream ended without leave; register again",
                        ))),
                        Err(status) => Some(End::Broken(status)),
                    };
                    match end {
                        None => {}
                        Some(End::Left) => return None,
                        Some(End::Broken(status)) => return Some(Err(status)),
                    }
                }
                () = if_any(self.drained.as_mut()) => {
                    self.drained = None;
                    return Some(Ok(Answer::Drained(pb::Drained {})));
                }
                () = self.owner.superseded.cancelled() => {
                    return Some(Err(Status::already_exists(format!(
                        "another stream registered {}; only one backend can have an address",
                        self.claim.addr
                    ))));
                }
                Ok(()) = self.rules.changed() => {
                    self.rules.mark_unchanged();
                    self.register().await;
                }
                Ok(()) = self.judged.changed() => {
                    self.judged.mark_unchanged();
                    self.register().await;
                }
                () = self.caller.peer.untrusted.cancelled(), if self.trusted => {
                    self.trusted = false;
                    let before = self.places.len();
                    self.register().await;
                    judge::untrusted(&self.shared, &self.caller, before - self.places.len());
                }
                () = &mut self.shutdown => return Some(Err(shutting_down())),
            }
        }
    }

    async fn take(&mut self, request: pb::RegisterRequest) -> Result<(), End> {
        match request.message {
            Some(Message::Registration(message)) => {
                let ip = self.caller.peer.addr.ip().to_canonical();
                self.claim = Claim::read(message, ip).map_err(|error| {
                    let status = Status::invalid_argument(error.to_string());
                    self.shared.log_refusal(&self.caller, &status);
                    End::Broken(status)
                })?;
                self.draining = false;
                self.drained = None;
                self.told = None;
                self.register().await;
            }
            Some(Message::Load(load)) => {
                self.renew().await;
                self.report(&load);
            }
            Some(Message::Drain(_)) => {
                self.renew().await;
                self.drain();
            }
            Some(Message::Leave(_)) => {
                let mut table = self.shared.table();
                for (service, addr) in &self.places {
                    table.leave(service, *addr, self.owner.id);
                }
                drop(table);
                for (service, backend) in self.places.drain(..) {
                    let log = self.shared.catalogue.backend_log();
                    log.note(&service, backend, BackendEvent::Left, "");
                }
                self.shared.metrics.ended("left", 1);
                self.shared.changed.notify_one();
                return Err(End::Left);
            }
            // Of a later version.
            None => self.renew().await,
        }
        Ok(())
    }

    /// Registers what was claimed, as far as the rules allow, and says so if it
    /// is not what was said last.
    async fn register(&mut self) {
        let applicant = Applicant {
            claim: &self.claim,
            caller: &self.caller,
            owner: &self.owner,
            draining: self.draining,
        };
        let admitted = admit(&self.shared, &applicant, &mut self.places).await;
        self.interval = admitted.interval;
        let named = self.claim.services.iter().map(|(named, _)| named);
        let results = named.zip(admitted.results).map(|(named, admitted)| {
            let (outcome, error) = match admitted {
                Ok(()) => (Outcome::Accepted, String::new()),
                Err(refused) => (refused.outcome, refused.error),
            };
            pb::ServiceResult {
                service: named.clone(),
                outcome: outcome.into(),
                error,
            }
        });
        let results = results.collect();
        self.tell(results);
    }

    fn tell(&mut self, services: Vec<pb::ServiceResult>) {
        let registered = pb::Registered {
            address: self.claim.addr.to_string(),
            lease: Some(duration::to_proto(lease(self.interval))),
            report_interval: Some(duration::to_proto(self.interval)),
            services,
        };
        if self.told.as_ref() == Some(&registered) {
            return;
        }
        for service in &registered.services {
            self.shared.metrics.registered(service.outcome());
            if service.outcome() == Outcome::Accepted {
                continue;
            }
            let kind = service.outcome().as_str_name();
            if let Some(unlogged) = self.shared.refusals.now(kind) {
                warn!(
                    peer = %self.caller.peer.addr,
                    backend = %self.claim.addr,
                    service = printable(&service.service, MAX_QUOTE),
                    reason = service.error,
                    unlogged,
                    "registration refused; more may follow unlogged"
                );
            }
        }
        self.told = Some(registered.clone());
        self.answers.push_back(Answer::Registered(registered));
    }

    /// The status of a stream that none of its services wants.
    fn hopeless(&self) -> Option<Status> {
        if !self.places.is_empty() {
            return None;
        }
        let services = &self.told.as_ref()?.services;
        let reasons = services
            .iter()
            .map(|s| format!("{}: {}", printable(&s.service, MAX_QUOTE), s.error));
        let reasons: Vec<String> = reasons.take(8).collect();
        let reasons = reasons.join("; ");
        Some(match services.first()?.outcome() {
            Outcome::UnknownService => Status::not_found(reasons),
            Outcome::Full => Status::resource_exhausted(reasons),
            _ => Status::permission_denied(reasons),
        })
    }

    /// Goes on with its leases; a backend whose lease expired meanwhile, as that of a
    /// process that was stopped, is registered anew.
    async fn renew(&mut self) {
        let until = Instant::now() + lease(self.interval);
        let registered = {
            let mut table = self.shared.table();
            let mut registered = true;
            for (service, addr) in &self.places {
                registered &= table.renew(service, *addr, self.owner.id, until);
            }
            registered
        };
        if !registered {
            self.register().await;
        }
    }

    fn report(&self, message: &pb::LoadReport) {
        // A backend without load says that it is there.
        if let Some(load) = &message.load {
            for (service, addr) in &self.places {
                let catalogue = &self.shared.catalogue;
                let source = ReportSource::Registration;
                let result = catalogue.report_load(service, *addr, source, load);
                self.shared.metrics.reported(result);
            }
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        let mut table = self.shared.table();
        for (service, addr) in &self.places {
            table.drain(service, *addr, self.owner.id);
        }
        drop(table);
        self.shared.changed.notify_one();
        for (service, backend) in &self.places {
            let log = self.shared.catalogue.backend_log();
            log.note(service, *backend, BackendEvent::Drains, "");
        }
        let (catalogue, places) = (Arc::clone(&self.shared.catalogue), self.places.clone());
        let unlisted = async move {
            for (service, addr) in places {
                drain::unlisted(&catalogue, &service, addr).await;
            }
        };
        self.drained = Some(unlisted.boxed());
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if self.places.is_empty() {
            return;
        }
        let mut table = self.shared.table();
        for (service, addr) in &self.places {
            table.disconnect(service, *addr, self.owner.id);
        }
        drop(table);
        self.shared.changed.notify_one();
    }
}

fn shutting_down() -> Status {
    Status::unavailable("this balancer is shutting down")
}
