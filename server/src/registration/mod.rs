//! `lookaside.v1.RegistrationService`: backends that say they are there, how
//! busy they are, and that they go.
//!
//! ```text
//!  stream ─► Claim ─► Rules ─► Table ─► keeper ─► catalogue.observe
//!    │      (read)  (may it?) (leases)    │
//!    ├─ reports ──────────────────────────┼─────► catalogue.report
//!    └─ breaks off ─► suspect ─► probe ───┘
//! ```
//!
//! A stream has no task: it is a response body that reads the request when
//! HTTP/2 asks it for more. One task, the keeper, tells the catalogue, so 10 000
//! registrations at once become a few contributions.
//!
//! Nobody may register unless the service's `register` says who (`rules`).
//! After a start, what is registered is told after one lease, so that backends
//! of before have come back: until then clients keep what they have.

mod admit;
mod bearer;
mod claim;
mod drain;
mod judge;
mod keeper;
mod metrics;
mod rules;
mod service;
mod stream;
mod table;
mod tokens;

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lookaside_proto::registration_v1::registration_service_server::RegistrationServiceServer;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::warn;

pub use claim::{Claim, Unreadable};
pub use metrics::RegistrationMetrics;
pub use service::{Register, Responses};
pub use tokens::check_token_file;

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::rollout::Part;
use crate::subchannel::Permits;
use crate::telemetry::{Seldom, printable};
use rules::{Caller, Rules};
use table::Table;
use tokens::Tokens;

/// A message longer than this is none of a backend's.
const MAX_MESSAGE: usize = 64 * 1024;

/// Backends of before a restart are waited for no longer than this: a stream is
/// turned away after 10 s of nothing.
const MAX_WAIT: Duration = Duration::from_secs(9);

/// The registration service. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Registrar(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    catalogue: Arc<Catalogue>,
    rules: watch::Sender<Arc<Rules>>,
    tokens: Tokens,
    /// How often all were judged again.
    judged: watch::Sender<u64>,
    /// A std mutex: held to change a few entries, or for one pass over all.
    table: Mutex<Table>,
    changed: Notify,
    metrics: RegistrationMetrics,
    next_stream: AtomicU64,
    streams: AtomicUsize,
    /// To open sockets by, where streams broke off.
    permits: Permits,
    refusals: Seldom,
    /// Cancelled when the balancer begins to shut down.
    draining: CancellationToken,
    /// Streams end over this time then.
    shutdown: Duration,
}

impl Registrar {
    /// For the services of `catalogue`, as `config` lets it. Streams end when
    /// `draining` is cancelled, spread over half of the configured shutdown. Where
    /// one broke off it looks with a socket, once `permits` has one.
    #[must_use]
    pub fn new(
        catalogue: Arc<Catalogue>,
        config: &Config,
        permits: Permits,
        draining: CancellationToken,
        metrics: RegistrationMetrics,
    ) -> Self {
        let registrar = Self(Arc::new(Shared {
            catalogue,
            rules: watch::Sender::default(),
            tokens: Tokens::default(),
            judged: watch::Sender::default(),
            table: Mutex::default(),
            changed: Notify::new(),
            metrics,
            next_stream: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            permits,
            refusals: Seldom::default(),
            draining,
            shutdown: config.balancer.shutdown / 2,
        }));
        registrar.configure(config);
        registrar
    }

    /// From now on `config` says who may register. Backends that may no longer
    /// are out at once.
    pub fn configure(&self, config: &Config) {
        let rules = Arc::new(Rules::of(config));
        let now = Instant::now();
        let services = rules.services();
        let services = services.map(|(name, lease)| (name, now + lease.min(MAX_WAIT)));
        // Together: whoever holds the table sees the rules that it is kept by.
        let mut table = self.0.table();
        table.allow(services);
        self.0.rules.send_if_modified(|now| {
            let changed = **now != *rules;
            *now = Arc::clone(&rules);
            changed
        });
        drop(table);
        self.0.changed.notify_one();
    }

    /// The service, to be routed.
    #[must_use]
    pub fn service(&self) -> RegistrationServiceServer<Register> {
        RegistrationServiceServer::new(Register::new(Arc::clone(&self.0)))
            .max_decoding_message_size(MAX_MESSAGE)
    }

    /// Tells the catalogue who is registered, reads the files of tokens, and follows the
    /// configuration, until `end`.
    pub async fn run(self, mut part: Part, end: CancellationToken) {
        let draining = self.0.draining.clone();
        let rules = self.0.rules.subscribe();
        let followed = self.0.tokens.follow(rules, end.clone());
        let judged = judge::follow(&self.0, end.clone());
        let kept = keeper::run(Arc::clone(&self.0), draining, end.clone());
        let configured = async {
            while let Some(revision) = end.run_until_cancelled(part.next()).await {
                self.configure(&revision.config);
                part.applied(&revision);
            }
        };
        tokio::join!(kept, followed, judged, configured);
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what a claim is judged by was read, or the balancer ends.
    async fn answered(&self, rules: &Rules, claim: &Claim) {
        let answered = rules.answered(claim, &self.tokens);
        self.draining.run_until_cancelled(answered).await;
    }

    /// Logs that a stream is refused before any of its services is judged; seldom, for
    /// a whole fleet may be wrong together.
    fn log_refusal(&self, caller: &Caller, status: &Status) {
        if let Some(unlogged) = self.refusals.now("stream") {
            warn!(
                peer = %caller.peer.addr,
                reason = printable(status.message(), 200),
                unlogged,
                "registration refused; more may follow unlogged"
            );
        }
    }
}
