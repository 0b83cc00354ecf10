//! The channel's control task: the one place where resolver, balancer and
//! subchannels meet. It owns all of them, so nothing here is locked; RPCs see
//! only what it publishes.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::error::ResolveError;
use crate::grpclb::{Event, Grpclb, GrpclbConfig};
use crate::policy::{ConnectivityState, Output, Policy};
use crate::resolve::{Balancers, Reresolve, Resolution, ResolutionStream, Resolve};
use crate::subchannel::Pool;

/// What RPCs see of the control task.
#[derive(Debug)]
pub(crate) struct Published {
    output: ArcSwap<Output>,
    lists: AtomicU64,
    progress: watch::Sender<Progress>,
}

/// Counts outputs, for those who wait for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) version: u64,
    pub(crate) state: ConnectivityState,
    /// Whether the resolver has said all there is to say: also whether there is
    /// a balancer.
    pub(crate) settled: bool,
}

impl Published {
    pub(crate) fn new() -> Arc<Self> {
        let output = Output::connecting();
        let (progress, _) = watch::channel(Progress {
            version: 0,
            state: output.state,
            settled: false,
        });
        Arc::new(Self {
            output: ArcSwap::from_pointee(output),
            lists: AtomicU64::new(0),
            progress,
        })
    }

    /// What the next RPC meets.
    pub(crate) fn output(&self) -> arc_swap::Guard<Arc<Output>> {
        self.output.load()
    }

    /// How many of a balancer's lists there have been in [`Self::output`].
    pub(crate) fn lists_followed(&self) -> u64 {
        self.lists.load(Ordering::Acquire)
    }

    /// Sees every publication from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn publish(&self, output: Output, settled: bool) {
        let same = Arc::ptr_eq(&self.output.load().picker, &output.picker);
        if same && self.progress.borrow().settled == settled {
            return;
        }
        let state = output.state;
        self.output.store(Arc::new(output));
        // Behind the picker: who is woken finds the new one.
        self.progress.send_modify(|progress| {
            progress.version += 1;
            progress.state = state;
            progress.settled = settled;
        });
    }
}

/// Makes the policy that a channel without a balancer uses.
pub(crate) type MakePolicy = Box<dyn Fn(fastrand::Rng) -> Box<dyn Policy> + Send>;

/// What the control task starts with.
pub(crate) struct Control {
    pub(crate) target: String,
    pub(crate) resolver: Box<dyn Resolve>,
    pub(crate) make_policy: MakePolicy,
    pub(crate) grpclb: GrpclbConfig,
    pub(crate) pool: Pool,
    pub(crate) rng: fastrand::Rng,
}

impl Control {
    /// Runs until it is dropped.
    pub(crate) async fn run(mut self, published: Arc<Published>) {
        let _ending = Ending(Arc::clone(&published));
        let reresolve = Reresolve::default();
        let mut resolutions = self.resolver.resolve(reresolve.clone());
        let mut balancing = Balancing::Nothing;
        let mut complete = false;
        loop {
            tokio::select! {
                resolution = next(&mut resolutions) => {
                    let partial = matches!(&resolution, Ok(r) if r.balancers == Balancers::Unknown);
                    complete |= !partial;
                    balancing = self.resolved(balancing, resolution);
                }
                () = self.pool.changed() => balancing.refresh(&mut self.pool),
                () = at(balancing.next_due()) => balancing.refresh(&mut self.pool),
                event = balancing.event() => {
                    if event.is_loss() {
                        reresolve.request();
                    }
                    balancing.handle(event, &mut self.pool);
                }
            }
            if self.pool.take_losses() && balancing.uses_resolved() {
                reresolve.request();
            }
            let output = balancing.output();
            self.log(&output, published.output().state);
            let settled = complete && balancing.is_settled();
            published.publish(output, settled);
            // Behind the output: who sees the count meets the list.
            let lists = balancing.lists_followed();
            published.lists.store(lists, Ordering::Release);
        }
    }

    /// Once per change, not once per RPC that fails.
    fn log(&self, output: &Output, before: ConnectivityState) {
        if output.state == before {
            return;
        }
        let state = output.state;
        match output.picker.failure() {
            Some(reason) => tracing::warn!(name = self.target, ?state, reason, "channel"),
            None => tracing::debug!(name = self.target, ?state, "channel"),
        }
    }

    fn resolved(
        &mut self,
        balancing: Balancing,
        resolution: Result<Resolution, ResolveError>,
    ) -> Balancing {
        match resolution {
            Ok(resolution) => self.follow(balancing, resolution),
            Err(error) if matches!(balancing, Balancing::Nothing | Balancing::Failed(_)) => {
                Balancing::Failed(Output::failure(error.to_string()))
            }
            Err(error) => {
                tracing::warn!(name = self.target, %error, "still using the known addresses");
                balancing
            }
        }
    }

    fn follow(&mut self, balancing: Balancing, resolution: Resolution) -> Balancing {
        let Resolution {
            endpoints,
            balancers,
            ..
        } = resolution;
        let pool = &mut self.pool;
        match (balancing, balancers) {
            (Balancing::Grpclb(mut grpclb, before), balancers) => {
                // Whoever had a balancer keeps it: an SRV record that is gone for
                // a moment is no reason to leave a list that is good.
                let balancers = match balancers {
                    Balancers::Known(balancers) => Some(balancers),
                    Balancers::Absent | Balancers::Unknown => None,
                };
                grpclb.resolved(endpoints, balancers, pool);
                Balancing::Grpclb(grpclb, before)
            }
            (before, Balancers::Known(balancers)) => {
                tracing::debug!(name = self.target, ?balancers, "following a balancer");
                let config = self.grpclb.clone();
                let mut grpclb = Grpclb::new(config, balancers, self.rng.fork());
                grpclb.resolved(endpoints, None, pool);
                let before = match before {
                    Balancing::Plain(policy) => Some(policy),
                    _ => None,
                };
                Balancing::Grpclb(Box::new(grpclb), before)
            }
            // A balancer may still be found, and needs no addresses beside it.
            (balancing, Balancers::Unknown) if endpoints.is_empty() => balancing,
            (_, Balancers::Absent) if endpoints.is_empty() => {
                let reason = format!("{} has no addresses", self.target);
                Balancing::Failed(Output::failure(reason))
            }
            (balancing, Balancers::Absent | Balancers::Unknown) => {
                let mut policy = match balancing {
                    Balancing::Plain(policy) => policy,
                    _ => (self.make_policy)(self.rng.fork()),
                };
                policy.update(endpoints, pool);
                Balancing::Plain(policy)
            }
        }
    }
}

/// Who decides where RPCs go.
enum Balancing {
    /// Nothing is known yet.
    Nothing,
    /// Nothing could be found out.
    Failed(Output),
    /// The policy of the channel's owner.
    Plain(Box<dyn Policy>),
    /// A balancer; beside it what served until its first list.
    Grpclb(Box<Grpclb>, Option<Box<dyn Policy>>),
}

impl Balancing {
    fn refresh(&mut self, pool: &mut Pool) {
        match self {
            Self::Nothing | Self::Failed(_) => {}
            Self::Plain(policy) => {
                policy.refresh(pool);
            }
            Self::Grpclb(grpclb, before) => {
                grpclb.refresh(pool);
                if let Some(policy) = before {
                    policy.refresh(pool);
                }
            }
        }
        self.forget_before();
    }

    /// When to refresh, if nothing happens until then.
    fn next_due(&self) -> Option<Instant> {
        match self {
            Self::Nothing | Self::Failed(_) => None,
            Self::Plain(policy) => policy.next_due(),
            Self::Grpclb(grpclb, before) => {
                let before = before.as_ref().and_then(|policy| policy.next_due());
                before.into_iter().chain(grpclb.next_due()).min()
            }
        }
    }

    async fn event(&mut self) -> Event {
        match self {
            Self::Grpclb(grpclb, _) => grpclb.event().await,
            _ => std::future::pending().await,
        }
    }

    fn handle(&mut self, event: Event, pool: &mut Pool) {
        if let Self::Grpclb(grpclb, _) = self {
            grpclb.handle(event, pool);
        }
        self.forget_before();
    }

    fn forget_before(&mut self) {
        if let Self::Grpclb(grpclb, before) = self
            && grpclb.output().state != ConnectivityState::Connecting
        {
            *before = None;
        }
    }

    /// Whether RPCs meet what they will meet for good.
    fn is_settled(&self) -> bool {
        !matches!(self, Self::Nothing | Self::Grpclb(_, Some(_)))
    }

    /// Whether the resolver's addresses are in use, so that it should know when
    /// one is lost.
    fn uses_resolved(&self) -> bool {
        match self {
            Self::Nothing | Self::Failed(_) | Self::Plain(_) => true,
            Self::Grpclb(grpclb, _) => grpclb.in_fallback(),
        }
    }

    fn lists_followed(&self) -> u64 {
        match self {
            Self::Grpclb(grpclb, _) => grpclb.lists_followed(),
            _ => 0,
        }
    }

    fn output(&self) -> Output {
        match self {
            Self::Nothing => Output::connecting(),
            Self::Failed(output) => output.clone(),
            Self::Plain(policy) | Self::Grpclb(_, Some(policy)) => policy.output(),
            Self::Grpclb(grpclb, None) => grpclb.output(),
        }
    }
}

/// Fails what still waits when the task ends, so that nobody waits for ever.
struct Ending(Arc<Published>);

impl Drop for Ending {
    fn drop(&mut self) {
        let output = Output {
            state: ConnectivityState::Shutdown,
            ..Output::failure("the channel has been shut down")
        };
        self.0.publish(output, true);
    }
}

/// Waits until `due`; for ever, if nothing is.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The next resolution; never, once the resolver has ended.
async fn next(stream: &mut ResolutionStream) -> Result<Resolution, ResolveError> {
    match poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        Some(resolution) => resolution,
        None => std::future::pending().await,
    }
}
