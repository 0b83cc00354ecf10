//! How busy the backend is: counted by a tower layer, told in reports.
//!
//! ```text
//!  calls ─► LoadLayer ─► Counters ─┐
//!                 /proc, cgroups ──┼─► Window ─► Report ─► registration, ORCA
//!          what the app sets ──────┘   (one per            streams, trailers
//!                                       reader)
//! ```
//!
//! Counters only ever grow. Who reads them keeps what it saw last and divides the
//! difference by the time in between, so readers of different intervals do not
//! disturb each other, and nothing runs while nobody reads.

mod body;
mod builder;
mod call;
mod counters;
mod layer;
mod report;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use lookaside_proto::orca_service_v3::open_rca_service_server::OpenRcaServiceServer;
use lookaside_proto::orca_v3::{ENDPOINT_LOAD_METRICS_KEY, OrcaLoadReport};
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

pub use self::body::CountedBody;
pub use self::builder::{LoadBuilder, is_error};
use self::counters::Counters;
pub use self::layer::{CountedFuture, CountedService, LoadLayer};
pub use self::report::Report;
pub(crate) use self::report::Window;
use self::report::{Mark, Measured};
use crate::cpu::Cpu;
use crate::orca::Orca;

/// A report that many ask for (each call's trailers) is made anew this often.
const RECENT: Duration = Duration::from_secs(1);

/// What "busy" means for a backend: the share of what it can do that it does.
/// A balancer sends calls to where it is low, so it should grow in proportion to
/// them, and be near 1 where calls begin to suffer.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Utilization {
    /// Calls under way, on average over the report's window, of as many as the
    /// backend takes at once: for backends that wait more than they compute, or
    /// whose work is limited by a pool. Reported as `application_utilization`.
    InFlight {
        /// As many calls at once are utilization 1. Above 0.
        limit: f64,
    },
    /// CPU: of the cgroup's limit where there is one (a container's), else the
    /// process's share of the machine. Reported as `cpu_utilization`; on systems
    /// other than Linux it is left out.
    Cpu,
    /// What the application says with [`Load::set_utilization`].
    Set,
}

/// When the trailers of a call carry a report (`endpoint-load-metrics-bin`), for
/// clients that balance by it themselves. A lookaside balancer does not see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Trailers {
    /// Never.
    Never,
    /// If the call's metadata has `endpoint-load-metrics-format`, with any value;
    /// it is what ORCA's clients ask with.
    #[default]
    OnRequest,
    /// Always; clients that balance by gRFC A58 without asking out of band do not
    /// say that they want them.
    Always,
}

/// The load of this backend. Clones are handles to the same; most programs have
/// one.
///
/// ```
/// use lookaside_backend::{Load, Utilization};
///
/// # fn serve<S>(_: S) {}
/// # async fn example(greeter: impl Clone) {
/// let load = Load::new(Utilization::InFlight { limit: 64.0 });
/// let layer = load.layer(); // for tonic's `Server::builder().layer(…)`
/// let orca = load.orca(); // for `.add_service(…)`, if anybody asks for ORCA
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Load(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    since: Instant,
    counters: Counters,
    cpu: Option<Cpu>,
    /// What the application says. A std mutex: held to read or write a value.
    stated: Mutex<Stated>,
    recent: ArcSwap<Recent>,
    /// What `recent` is made from; who has it makes the next.
    recent_window: Mutex<Window>,
    /// Whether somebody waits for calls to end.
    watched: AtomicBool,
    ended: Notify,
    /// Ends the streams of reports.
    closed: Mutex<CancellationToken>,
}

/// What a [`LoadBuilder`] was told.
#[derive(Debug, Clone)]
struct Settings {
    utilization: Utilization,
    is_error: fn(Code) -> bool,
    uncounted: Vec<String>,
    trailers: Trailers,
    min_interval: Duration,
}

/// What the application says of itself.
#[derive(Debug, Clone, Default)]
struct Stated {
    utilization: Option<f64>,
    memory: Option<f64>,
    resources: BTreeMap<String, f64>,
    metrics: BTreeMap<String, f64>,
}

/// What was measured last, and the report of it that trailers carry.
#[derive(Debug)]
struct Recent {
    at: Duration,
    measured: Measured,
    trailer: Option<HeaderValue>,
}

impl Load {
    /// Counts from now on, with everything else as [`LoadBuilder`] has it.
    #[must_use]
    pub fn new(utilization: Utilization) -> Self {
        Self::builder(utilization).build()
    }

    /// To say more than the utilization.
    #[must_use]
    pub fn builder(utilization: Utilization) -> LoadBuilder {
        LoadBuilder::new(utilization)
    }

    /// The layer that counts calls, for tonic's `Server::builder().layer(…)`. It
    /// goes outside of layers that refuse calls, so that those count too.
    #[must_use]
    pub fn layer(&self) -> LoadLayer {
        LoadLayer::new(self.clone())
    }

    /// ORCA's service `xds.service.orca.v3.OpenRcaService`, for who asks for
    /// reports out of band: balancers that backends do not register with.
    #[must_use]
    pub fn orca(&self) -> OpenRcaServiceServer<Orca> {
        OpenRcaServiceServer::new(Orca::new(self.clone(), self.0.settings.min_interval))
    }

    /// Says how busy the backend is: 1 is as much as it can do, and it may be
    /// more. It is said until something else is, and in the place of what
    /// [`Utilization::InFlight`] measures. Not a number, infinite or negative is
    /// ignored.
    pub fn set_utilization(&self, utilization: f64) {
        if let Some(utilization) = sane(utilization) {
            self.stated().utilization = Some(utilization);
        }
    }

    /// Says what share of the memory is in use, 0 to 1.
    pub fn set_memory(&self, share: f64) {
        if let Some(share) = sane(share) {
            self.stated().memory = Some(share);
        }
    }

    /// Says what share of some resource is in use (ORCA's `utilization`): a
    /// balancer can be told to go by it.
    pub fn set_resource(&self, name: impl Into<String>, share: f64) {
        if let Some(share) = sane(share) {
            self.stated().resources.insert(name.into(), share);
        }
    }

    /// Says a number of the application's own (ORCA's `named_metrics`): a
    /// balancer can be told to go by it. Not a number or infinite is ignored.
    pub fn set_metric(&self, name: impl Into<String>, value: f64) {
        if value.is_finite() {
            self.stated().metrics.insert(name.into(), value);
        }
    }

    /// No longer says the resource or metric of that name.
    pub fn unset(&self, name: &str) {
        let mut stated = self.stated();
        stated.resources.remove(name);
        stated.metrics.remove(name);
    }

    /// Calls under way now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.0.counters.in_flight()
    }

    /// The load over about the last second; longer where nobody asked.
    #[must_use]
    pub fn recent(&self) -> Report {
        self.complete(self.refreshed().measured)
    }

    /// Ends the streams of [`Self::orca`], which otherwise keep a server that
    /// shuts down waiting. [`Registration::drain`](crate::Registration::drain)
    /// does it when it is done.
    pub fn close(&self) {
        self.closed().cancel();
    }

    /// Streams of [`Self::orca`] that begin from now on last.
    pub(crate) fn reopen(&self) {
        let closed = self.0.closed.lock();
        *closed.unwrap_or_else(PoisonError::into_inner) = CancellationToken::new();
    }

    /// Waits until no call is under way and none has come for `quiet`.
    pub async fn idle(&self, quiet: Duration) {
        self.0.watched.store(true, Ordering::SeqCst);
        loop {
            let mut ended = std::pin::pin!(self.0.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            if self.in_flight() > 0 {
                ended.await;
                continue;
            }
            let before = self.0.counters.started();
            sleep(quiet).await;
            if self.in_flight() == 0 && self.0.counters.started() == before {
                return;
            }
        }
    }

    fn from_settings(settings: Settings) -> Self {
        let cpu = match settings.utilization {
            Utilization::Cpu => Cpu::detect(),
            _ => None,
        };
        if settings.utilization == Utilization::Cpu && cpu.is_none() {
            tracing::warn!("CPU use cannot be read on this system; reports will not have it");
        }
        let beginning = Mark {
            cpu: cpu.as_ref().and_then(Cpu::used),
            ..Mark::default()
        };
        Self(Arc::new(Shared {
            settings,
            since: Instant::now(),
            counters: Counters::default(),
            cpu,
            stated: Mutex::default(),
            recent: ArcSwap::from_pointee(Recent {
                at: Duration::ZERO,
                measured: Measured::default(),
                trailer: None,
            }),
            recent_window: Mutex::new(Window::from(beginning)),
            watched: AtomicBool::new(false),
            ended: Notify::new(),
            closed: Mutex::new(CancellationToken::new()),
        }))
    }

    /// Cancelled when streams of reports should end.
    pub(crate) fn closed(&self) -> CancellationToken {
        let closed = self.0.closed.lock();
        closed.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A window of one's own, from now on.
    pub(crate) fn window(&self) -> Window {
        Window::from(self.mark().unwrap_or_default())
    }

    /// The load since the window's last report, or the recent load where that is
    /// no time at all.
    pub(crate) fn report(&self, window: &mut Window) -> Report {
        let Some(measured) = self.mark().and_then(|mark| window.advance(mark)) else {
            return self.recent();
        };
        self.complete(measured)
    }

    /// What calls carry in their trailers.
    fn trailer(&self) -> Option<HeaderValue> {
        self.refreshed().trailer.clone()
    }

    fn refreshed(&self) -> Arc<Recent> {
        let now = self.now();
        let recent = self.0.recent.load_full();
        if now < recent.at + RECENT {
            return recent;
        }
        // Whoever does not get it takes what is there.
        let Ok(mut window) = self.0.recent_window.try_lock() else {
            return recent;
        };
        let Some(measured) = self.mark().and_then(|mark| window.advance(mark)) else {
            return recent;
        };
        let recent = Arc::new(Recent {
            at: now,
            measured,
            trailer: trailer(&self.complete(measured).to_orca()),
        });
        self.0.recent.store(Arc::clone(&recent));
        recent
    }

    /// The counters now.
    fn mark(&self) -> Option<Mark> {
        let at = self.now();
        Some(Mark {
            at,
            totals: self.0.counters.totals(at)?,
            cpu: self.0.cpu.as_ref().and_then(Cpu::used),
        })
    }

    /// What was measured, with what the application says.
    fn complete(&self, measured: Measured) -> Report {
        let stated = self.stated().clone();
        let in_flight = match self.0.settings.utilization {
            Utilization::InFlight { limit } if limit > 0.0 => sane(measured.in_flight / limit),
            _ => None,
        };
        let cpu = self.0.cpu.as_ref().zip(measured.cpu);
        Report {
            window: measured.window,
            qps: measured.qps,
            eps: measured.eps,
            in_flight: measured.in_flight,
            utilization: stated.utilization.or(in_flight),
            cpu: cpu.and_then(|(cpu, used)| sane(used / cpu.cores())),
            memory: stated.memory,
            resources: stated.resources,
            metrics: stated.metrics,
        }
    }

    fn now(&self) -> Duration {
        self.0.since.elapsed()
    }

    fn stated(&self) -> MutexGuard<'_, Stated> {
        self.0.stated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number, if a share of something can be it.
fn sane(number: f64) -> Option<f64> {
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// A report as gRPC carries bytes in metadata.
fn trailer(report: &OrcaLoadReport) -> Option<HeaderValue> {
    let mut metadata = MetadataMap::new();
    let bytes = BinaryMetadataValue::from_bytes(&report.encode_to_vec());
    metadata.insert_bin(ENDPOINT_LOAD_METRICS_KEY, bytes);
    metadata.into_headers().remove(ENDPOINT_LOAD_METRICS_KEY)
}

#[cfg(test)]
mod tests;
