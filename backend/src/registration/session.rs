//! The stream to one balancer, opened again whenever it ends.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lookaside_client::Channel;
#[cfg(feature = "tls")]
use lookaside_client::ClientTls;
use lookaside_client::backoff::{Backoff, jittered};
use lookaside_client::resolve::Reresolve;
use lookaside_proto::duration;
use lookaside_proto::registration_v1 as pb;
use lookaside_proto::registration_v1::register_request::Message;
use lookaside_proto::registration_v1::register_response::Message as Answer;
use lookaside_proto::registration_v1::registration_service_client::RegistrationServiceClient;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::status::{BalancerState, Board, Registered};
use super::{Phase, Wanted};
use crate::load::{Load, Window};

/// A balancer that was lost is tried again at least this often: it holds its
/// lists back for ten seconds after its start, for backends to come back.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A balancer has this long to take a connection, and to answer a registration.
const PATIENCE: Duration = Duration::from_secs(10);

/// A silent balancer is asked this often whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Share of the interval by which a report may come sooner or later.
const JITTER: f64 = 0.1;

/// What a backend shows.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) token: Option<String>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<ClientTls>,
}

/// A session with one balancer.
pub(super) struct Session {
    pub(super) addr: SocketAddr,
    pub(super) authority: String,
    pub(super) identity: Identity,
    pub(super) wanted: watch::Receiver<Wanted>,
    /// The balancers that there are.
    pub(super) known: watch::Receiver<BTreeSet<SocketAddr>>,
    pub(super) board: Board,
    pub(super) load: Load,
    pub(super) reresolve: Vec<Reresolve>,
}

/// How a stream ended.
enum End {
    /// After our good-bye.
    Left,
    /// For this reason; whether it had been registered.
    Lost(String, bool),
    /// The balancer does not want us.
    Refused(String),
}

impl Session {
    /// Runs until the backend leaves, or the balancer is gone for good.
    pub(super) async fn run(mut self) -> SocketAddr {
        let mut rng = fastrand::Rng::new();
        let (mut lost, mut refused) = (Backoff::default(), Backoff::default());
        let mut said = String::new();
        self.board.set(self.addr, BalancerState::Connecting, None);
        while self.phase() < Phase::Leaving {
            let (state, pause) = match self.stream(&mut rng).await {
                End::Left => break,
                End::Lost(reason, registered) => {
                    if registered {
                        lost.reset();
                        refused.reset();
                        said.clear();
                    }
                    // Backends that lost a balancer together come back apart.
                    let pause = lost.next_delay(&mut rng).min(RETRY_MAX);
                    let pause = pause.mul_f64(0.2 + 0.8 * rng.f64());
                    (BalancerState::Lost(reason), pause)
                }
                End::Refused(reason) => {
                    (BalancerState::Refused(reason), refused.next_delay(&mut rng))
                }
            };
            if let BalancerState::Lost(reason) | BalancerState::Refused(reason) = &state {
                // Once for each reason in a row: a balancer may be away for long.
                if *reason != said {
                    tracing::warn!(balancer = %self.addr, %reason, "not registered");
                    said.clone_from(reason);
                }
            }
            self.board.set(self.addr, state, None);
            for reresolve in &self.reresolve {
                reresolve.request();
            }
            if !self.known.borrow().contains(&self.addr) {
                break;
            }
            let leaving = self
                .wanted
                .wait_for(|wanted| wanted.phase == Phase::Leaving);
            tokio::select! {
                () = sleep(pause) => {}
                _ = leaving => break,
            }
        }
        self.board.remove(self.addr);
        self.addr
    }

    fn phase(&self) -> Phase {
        self.wanted.borrow().phase
    }

    async fn connect(&self) -> Result<Channel, String> {
        let builder = Channel::builder(format!("static:{}", self.addr))
            .authority(self.authority.clone())
            .user_agent(concat!("lookaside-backend/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(PATIENCE)
            .keepalive(KEEPALIVE, KEEPALIVE)
            .idle_timeout(None);
        #[cfg(feature = "tls")]
        let builder = match &self.identity.tls {
            Some(tls) => builder.tls(tls.clone()),
            None => builder,
        };
        builder.connect().await.map_err(|error| error.to_string())
    }

    /// One stream, from connecting to its end.
    async fn stream(&mut self, rng: &mut fastrand::Rng) -> End {
        let channel = match timeout(PATIENCE, self.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(reason)) => return End::Lost(reason, false),
            Err(_) => {
                return End::Lost(format!("no connection within {PATIENCE:?}"), false);
            }
        };
        let (requests, outbound) = mpsc::channel(16);
        let wanted = self.wanted.borrow_and_update().clone();
        let mut out = Outbound {
            requests,
            told: None,
            phase: Phase::Serving,
        };
        if out.tell(&wanted).is_err() {
            return End::Lost("the stream did not begin".to_owned(), false);
        }
        let mut request = tonic::Request::new(ReceiverStream::new(outbound));
        if let Some(token) = &self.identity.token
            && let Ok(bearer) = format!("Bearer {token}").parse()
        {
            request.metadata_mut().insert("authorization", bearer);
        }
        let mut client = RegistrationServiceClient::new(channel);
        let responses = match timeout(PATIENCE, client.register(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return ended(&status, false),
            Err(_) => return End::Lost(format!("no answer within {PATIENCE:?}"), false),
        };
        self.follow(responses, out, rng).await
    }

    async fn follow(
        &mut self,
        mut responses: tonic::Streaming<pb::RegisterResponse>,
        mut out: Outbound,
        rng: &mut fastrand::Rng,
    ) -> End {
        let mut window = self.load.window();
        let mut lease = None;
        let mut interval = None;
        let mut next = Instant::now() + PATIENCE;
        loop {
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => match response.message {
                        // It has crossed with our coming back.
                        Some(Answer::Drained(_)) if self.phase() == Phase::Serving => {}
                        Some(Answer::Registered(registered)) => {
                            let registered = Registered::from_proto(registered);
                            if interval.is_none() {
                                // The first report at once: it may be a new balancer.
                                next = Instant::now();
                            }
                            interval = Some(registered.report_interval);
                            lease = Some(registered.lease);
                            // A balancer may say it again at any time, and what it
                            // said of the drain stands.
                            if !self.board.is_drained(self.addr) {
                                self.note(registered);
                            }
                        }
                        Some(Answer::Drained(_)) => {
                            self.board.set(self.addr, BalancerState::Drained, lease);
                        }
                        // Of a later version.
                        None => {}
                    },
                    Ok(None) if self.phase() == Phase::Leaving => return End::Left,
                    Ok(None) => {
                        let reason = "the balancer ended the stream".to_owned();
                        return End::Lost(reason, lease.is_some());
                    }
                    Err(status) => return ended(&status, lease.is_some()),
                },
                Ok(()) = self.wanted.changed() => {
                    let wanted = self.wanted.borrow_and_update().clone();
                    if out.tell(&wanted).is_err() {
                        return End::Lost("the balancer takes no messages".to_owned(), lease.is_some());
                    }
                },
                () = sleep_until(next) => {
                    let (Some(interval), Some(lease)) = (interval, lease) else {
                        return End::Lost(format!("no answer within {PATIENCE:?}"), false);
                    };
                    next = Instant::now() + jittered(interval, JITTER, rng);
                    if out.report(&self.load, &mut window) {
                        self.board.renew(self.addr, lease);
                    }
                },
            }
        }
    }

    fn note(&self, registered: Registered) {
        let faults = registered.faults();
        if faults.is_empty() {
            tracing::info!(balancer = %self.addr, address = %registered.address, "registered");
        } else {
            tracing::warn!(
                balancer = %self.addr,
                address = %registered.address,
                "not registered for every service: {}",
                faults.join("; ")
            );
        }
        let lease = registered.lease;
        let state = BalancerState::Registered(registered);
        self.board.set(self.addr, state, Some(lease));
    }
}

/// What goes to the balancer.
struct Outbound {
    requests: mpsc::Sender<pb::RegisterRequest>,
    /// What it was told last.
    told: Option<Arc<pb::Registration>>,
    phase: Phase,
}

/// The balancer takes nothing.
struct Stuck;

impl Outbound {
    /// Says what is wanted now and was not before. A registration undoes a drain,
    /// so after one it is said again only to undo it.
    fn tell(&mut self, wanted: &Wanted) -> Result<(), Stuck> {
        let resumed = wanted.phase < self.phase;
        if resumed {
            self.phase = Phase::Serving;
        }
        let news = self.told.as_ref() != Some(&wanted.message);
        if resumed || (self.phase == Phase::Serving && news) {
            self.told = Some(Arc::clone(&wanted.message));
            let message = pb::Registration::clone(&wanted.message);
            self.send(Message::Registration(message))?;
        }
        if self.phase < Phase::Draining && wanted.phase == Phase::Draining {
            self.send(Message::Drain(pb::Drain {}))?;
        }
        if self.phase < Phase::Leaving && wanted.phase == Phase::Leaving {
            self.send(Message::Leave(pb::Leave {}))?;
        }
        self.phase = wanted.phase;
        Ok(())
    }

    /// Says how busy the backend is, and whether it could be said.
    fn report(&self, load: &Load, window: &mut Window) -> bool {
        let report = load.report(window);
        let sent = self.send(Message::Load(pb::LoadReport {
            window: Some(duration::to_proto(report.window)),
            load: Some(report.to_orca()),
        }));
        sent.is_ok()
    }

    fn send(&self, message: Message) -> Result<(), Stuck> {
        let request = pb::RegisterRequest {
            message: Some(message),
        };
        self.requests.try_send(request).map_err(|_| Stuck)
    }
}

/// What a status says of why a stream ended.
fn ended(status: &Status, registered: bool) -> End {
    let doubt = match status.code() {
        Code::Unimplemented => "is this the port of a balancer that takes registrations?",
        _ => "",
    };
    let words = [status.message(), doubt];
    let words: Vec<_> = words.into_iter().filter(|text| !text.is_empty()).collect();
    let reason = match words.is_empty() {
        true => format!("{:?}", status.code()),
        false => format!("{:?}: {}", status.code(), words.join("; ")),
    };
    match status.code() {
        // As it is, the balancer will not take it. It may be configured to.
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Unauthenticated => End::Refused(reason),
        _ => End::Lost(reason, registered),
    }
}
