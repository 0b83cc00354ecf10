//! The grpclb policy: backends, their order, their tokens and the RPCs to drop
//! come from a balancer, over a stream that stays open.
//!
//! ```text
//!              list                        list
//!   Startup ─────────► following the list ◄─────── Fallback
//!      │                        │                     ▲
//!      │ 10 s, or the balancer  │ stream lost and no   │
//!      │ refuses                │ backend ready, or    │
//!      └────────────────────────┴─ fallback_response ──┘
//! ```
//!
//! The semantics are the best of gRPC's three official clients, which differ:
//! fallback at once when the balancer refuses (C++); out of fallback with any
//! list that is not empty, also with the one from before (Go, Java; C++ stays in
//! fallback); the old list serves until a backend of the new one is ready (C++;
//! the others let RPCs wait); each entry's own token (C++, Java).

mod child;
mod list;
mod loss_log;
mod picker;
mod reports;
mod stats;
mod stream;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::HeaderValue;
use lookaside_proto::lb_v1::Server;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use self::child::{Child, Children, Source};
use self::list::List;
use self::loss_log::LossLog;
use self::picker::Drops;
use self::stats::StreamStats;
use self::stream::{Event as StreamEvent, Service, StreamConfig};
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::metrics::Metrics;
use crate::policy::{Output, PickFirst, Policy, RoundRobin};
use crate::resolve::BalancerAddress;
use crate::service_config::{ChildPolicy, GrpclbPolicyConfig};
use crate::subchannel::{ConnectOptions, Pool};
use crate::until::{after, until};
/// Events that wait for the control task before the stream waits too.
const EVENTS: usize = 4;

/// How the policy talks to its balancer.
#[derive(Debug, Clone)]
pub(crate) struct GrpclbConfig {
    /// Name of the service in the request to the balancer, unless the service
    /// config has another.
    pub(crate) name: String,
    pub(crate) user_agent: HeaderValue,
    /// How long the first list may take before the fallback addresses are used.
    pub(crate) fallback_timeout: Duration,
    /// Whether to report statistics if the balancer asks for them.
    pub(crate) report: bool,
    pub(crate) connect: ConnectOptions,
    pub(crate) metrics: Arc<Metrics>,
}

/// The policy, and its stream.
#[derive(Debug)]
pub(crate) struct Grpclb {
    events: mpsc::Receiver<StreamEvent>,
    service: watch::Sender<Service>,
    /// Name of the service where the service config has none.
    name: String,
    child: ChildPolicy,
    /// Holds the stream's task, which ends with the policy.
    _stream: JoinSet<()>,
    fallback: Vec<Endpoint>,
    children: Children,
    /// Whether the stream that is open now has delivered a list.
    stream_has_list: bool,
    /// When startup ends, if no list has come.
    startup_ends: Option<Instant>,
    /// Why there is no list, for RPCs that fail for want of one.
    lost: Option<Arc<ConnectError>>,
    loss_log: LossLog,
    output: Output,
    /// Lists of the balancer that RPCs have met so far.
    lists: u64,
    metrics: Arc<Metrics>,
    rng: fastrand::Rng,
}

/// What the control task hands back to [`Grpclb::handle`].
#[derive(Debug)]
pub(crate) struct Event(Happened);

#[derive(Debug)]
enum Happened {
    Stream(StreamEvent),
    StartupEnds,
}

impl Event {
    /// Whether the balancer was lost.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self.0, Happened::Stream(StreamEvent::Lost(_)))
    }
}

impl Grpclb {
    pub(crate) fn new(
        config: GrpclbConfig,
        policy: &GrpclbPolicyConfig,
        balancers: Vec<BalancerAddress>,
        mut rng: fastrand::Rng,
    ) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        let name = policy.service_name.as_ref().unwrap_or(&config.name);
        let (service, followed) = watch::channel(Service {
            name: name.clone(),
            balancers,
        });
        let mut stream = JoinSet::new();
        let settings = StreamConfig {
            user_agent: config.user_agent,
            connect: config.connect,
            report: config.report,
            metrics: Arc::clone(&config.metrics),
        };
        let run = stream::run(settings, followed, sender, rng.fork());
        stream.spawn(run.in_current_span());
        let patience = policy.initial_fallback_timeout;
        let patience = patience.unwrap_or(config.fallback_timeout);
        Self {
            events,
            service,
            name: config.name,
            child: policy.child,
            _stream: stream,
            fallback: vec![],
            children: Children::default(),
            stream_has_list: false,
            startup_ends: after(patience),
            lost: None,
            loss_log: LossLog::default(),
            output: Output::connecting(),
            lists: 0,
            metrics: config.metrics,
            rng,
        }
    }

    /// Follows a changed service config: another child policy takes over with the
    /// list at hand, another service name means another stream. The fallback
    /// timeout is of interest only at the start.
    pub(crate) fn reconfigure(&mut self, policy: &GrpclbPolicyConfig, pool: &mut Pool) {
        let name = policy.service_name.as_ref().unwrap_or(&self.name);
        self.service.send_if_modified(|service| {
            let changed = service.name != *name;
            service.name.clone_from(name);
            changed
        });
        if self.child == policy.child {
            return;
        }
        self.child = policy.child;
        match self.children.newest() {
            None => {}
            Some(Child {
                source: Source::Fallback,
                ..
            }) => self.enter_fallback(pool),
            Some(Child {
                source: Source::Balancer { servers, stats, .. },
                ..
            }) => {
                let (list, stats) = (List::new(servers.clone()), Arc::clone(stats));
                self.follow(list, stats, pool);
            }
        }
        self.compose();
    }

    /// Waits for something to [`Grpclb::handle`]. May be dropped at any time.
    pub(crate) async fn event(&mut self) -> Event {
        tokio::select! {
            Some(event) = self.events.recv() => Event(Happened::Stream(event)),
            () = until(self.startup_ends) => Event(Happened::StartupEnds),
            else => std::future::pending().await,
        }
    }

    pub(crate) fn handle(&mut self, event: Event, pool: &mut Pool) {
        match event.0 {
            Happened::Stream(StreamEvent::List(servers, stats)) => self.list(servers, stats, pool),
            Happened::Stream(StreamEvent::Fallback) => {
                self.startup_ends = None;
                tracing::info!("the balancer asks for the fallback addresses");
                self.lost = Some(no_list("the balancer has no backend for the service"));
                self.enter_fallback(pool);
            }
            Happened::Stream(StreamEvent::Renamed) => self.stream_has_list = false,
            Happened::Stream(StreamEvent::Lost(reason)) => {
                self.stream_has_list = false;
                if self.lost.is_none() {
                    self.loss_log.lost(&reason.to_string());
                }
                self.lost = Some(Arc::new(reason));
                if self.startup_ends.take().is_some() {
                    self.enter_fallback(pool);
                }
                self.fall_back_if_all_is_lost(pool);
            }
            Happened::StartupEnds => {
                self.startup_ends = None;
                let silent = || no_list("the balancer has not sent a list");
                self.lost.get_or_insert_with(silent);
                tracing::info!("no list from the balancer yet; using the fallback addresses");
                self.enter_fallback(pool);
            }
        }
        self.compose();
    }

    /// What the resolver knows now. No new balancers (`None`) changes nothing.
    pub(crate) fn resolved(
        &mut self,
        endpoints: Vec<Endpoint>,
        balancers: Option<Vec<BalancerAddress>>,
        pool: &mut Pool,
    ) {
        if let Some(balancers) = balancers {
            self.service.send_if_modified(|service| {
                let changed = service.balancers != balancers;
                service.balancers = balancers;
                changed
            });
        }
        if self.fallback == endpoints {
            return;
        }
        self.fallback = endpoints;
        if self.in_fallback() {
            self.enter_fallback(pool);
        } else {
            self.fall_back_if_all_is_lost(pool);
        }
        self.compose();
    }

    /// A subchannel changed. Says whether the output did.
    pub(crate) fn refresh(&mut self, pool: &mut Pool) -> bool {
        let mut changed = self.children.refresh(pool);
        changed |= self.promote();
        changed |= self.fall_back_if_all_is_lost(pool);
        if changed {
            self.compose();
        }
        changed
    }

    /// When a child policy wants to be refreshed.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.children.next_due()
    }

    pub(crate) fn output(&self) -> Output {
        self.output.clone()
    }

    /// How many of the balancer's lists RPCs have met so far.
    pub(crate) fn lists_followed(&self) -> u64 {
        self.lists
    }

    fn list(&mut self, servers: Vec<Server>, stats: Arc<StreamStats>, pool: &mut Pool) {
        self.loss_log.list();
        self.stream_has_list = true;
        self.startup_ends = None;
        self.lost = None;
        if servers.is_empty() && self.in_fallback() {
            // A balancer that knows no backend gives no reason to leave.
            return;
        }
        if self.children.recount(&servers, &stats) {
            // The same list on a new stream: only the counts start anew.
            return;
        }
        let list = List::new(servers);
        if let Some((count, first)) = &list.bad {
            let bad = u64::try_from(*count).unwrap_or(u64::MAX);
            self.metrics.bad_entries.fetch_add(bad, Relaxed);
            tracing::warn!(count, %first, "bad entries in the balancer's list are skipped");
        }
        self.follow(list, stats, pool);
    }

    /// Takes `list` into use as soon as it can serve.
    fn follow(&mut self, list: List, stats: Arc<StreamStats>, pool: &mut Pool) {
        let mut policy = self.child_policy();
        let drops = Drops::of(&list);
        let (drops_all, empty) = (list.drops_all(), list.backends.is_empty());
        policy.update(list.backends, pool);
        let source = Source::Balancer {
            drops,
            drops_all,
            servers: list.servers,
            stats,
        };
        self.install(Child {
            policy,
            source,
            empty,
        });
    }

    fn child_policy(&mut self) -> Box<dyn Policy> {
        match self.child {
            ChildPolicy::RoundRobin => Box::new(RoundRobin::new(self.rng.fork())),
            ChildPolicy::PickFirst => Box::new(PickFirst::new()),
        }
    }

    /// Whether the fallback addresses are in use, or about to be.
    pub(crate) fn in_fallback(&self) -> bool {
        self.children.newest().is_some_and(Child::is_fallback)
    }

    fn enter_fallback(&mut self, pool: &mut Pool) {
        if !self.in_fallback() {
            self.metrics.fallbacks.fetch_add(1, Relaxed);
        }
        let mut policy = self.child_policy();
        policy.update(self.fallback.clone(), pool);
        self.install(Child {
            policy,
            source: Source::Fallback,
            empty: self.fallback.is_empty(),
        });
    }

    /// Falls back after startup, once neither the balancer nor a backend is left.
    /// Says whether it did. Without fallback addresses the list stays: its
    /// backends may return.
    fn fall_back_if_all_is_lost(&mut self, pool: &mut Pool) -> bool {
        let lost = !self.stream_has_list
            && !self.in_fallback()
            && !self.fallback.is_empty()
            && self.children.has_failed();
        if lost {
            tracing::info!("balancer and backends are lost; using the fallback addresses");
            self.enter_fallback(pool);
        }
        lost
    }

    fn install(&mut self, child: Child) {
        self.children.install(child);
        self.promote();
    }

    fn promote(&mut self) -> bool {
        let promoted = self.children.promote();
        if promoted {
            let in_fallback = self.in_fallback();
            self.lists += u64::from(!in_fallback);
            self.metrics.in_fallback.store(in_fallback.into(), Relaxed);
        }
        promoted
    }

    fn compose(&mut self) {
        if let Some(child) = self.children.serving() {
            self.output = child.output(self.lost.as_ref());
        }
    }
}

fn no_list(reason: &str) -> Arc<ConnectError> {
    Arc::new(ConnectError::new(ConnectErrorKind::Balancer, reason))
}

impl Drop for Grpclb {
    fn drop(&mut self) {
        self.metrics.balancer_connected.store(0, Relaxed);
        self.metrics.in_fallback.store(0, Relaxed);
    }
}
