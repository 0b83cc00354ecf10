//! What RPCs see of the control task: the picker, and word of the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::FutureExt as _;
use tokio::runtime::{EnterGuard, Handle};
use tokio::sync::{Notify, watch};

use super::Methods;
use crate::endpoint::ConnectivityState;
use crate::metrics::{ChannelMetrics, Hook, Metrics};
use crate::policy::{Output, Pick, PickArgs, Picker};
use crate::service_config::ServiceConfig;

/// One per channel.
#[derive(Debug)]
pub(crate) struct Published {
    output: ArcSwap<Output>,
    /// What the service config says of RPCs; mostly nothing.
    methods: ArcSwapOption<Methods>,
    lists: AtomicU64,
    progress: watch::Sender<Progress>,
    metrics: Arc<Metrics>,
    /// Told of each RPC's end.
    hook: Option<Hook>,
    /// Where the channel was made.
    runtime: Option<Handle>,
    /// Tells an idle channel that it is wanted.
    wake: Arc<Notify>,
}

/// What the newest output stands for. Each publication is seen by those who wait,
/// also one that changes nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) state: ConnectivityState,
    /// Whether the resolver has said all there is to say: also whether there is
    /// a balancer.
    pub(crate) settled: bool,
}

impl Published {
    pub(crate) fn new(metrics: Arc<Metrics>, hook: Option<Hook>) -> Arc<Self> {
        let output = Output::connecting();
        let (progress, _) = watch::channel(Progress {
            state: output.state,
            settled: false,
        });
        Arc::new(Self {
            output: ArcSwap::from_pointee(output),
            methods: ArcSwapOption::empty(),
            lists: AtomicU64::new(0),
            progress,
            metrics,
            hook,
            runtime: Handle::try_current().ok(),
            wake: Arc::default(),
        })
    }

    /// What the next RPC meets.
    pub(crate) fn output(&self) -> arc_swap::Guard<Arc<Output>> {
        self.output.load()
    }

    /// What the service config says of RPCs, if it says something.
    pub(crate) fn methods(&self) -> Option<Arc<Methods>> {
        // Most have none, and pay for a look only.
        self.methods.load().as_ref().map(Arc::clone)
    }

    /// RPCs that begin from now on go by `config`. None changes nothing: it is not
    /// known yet.
    pub(crate) fn configure(&self, config: Option<&ServiceConfig>) {
        let before = self.methods.load();
        let same = match &*before {
            Some(methods) => methods.are_of(config),
            None => config.is_none_or(|config| config.methods.is_empty()),
        };
        if config.is_some() && !same {
            let methods = Methods::new(config, before.as_deref());
            self.methods.store(methods.map(Arc::new));
        }
    }

    /// Takes an RPC's turn: picks, counts that, and has `f` see what was picked.
    pub(crate) fn pick<R>(&self, args: &PickArgs<'_>, f: impl FnOnce(Pick<'_>) -> R) -> R {
        let output = self.output();
        let pick = output.picker.pick(args);
        match &pick {
            Pick::Complete(picked) => {
                self.metrics.picks.add_one();
                if let Some(tracker) = picked.tracker {
                    tracker.started();
                }
            }
            Pick::Drop(_) => self.metrics.drops.add_one(),
            // Whether it fails depends on the RPC.
            Pick::Queue | Pick::Fail(_) => {}
        }
        f(pick)
    }

    /// How many of a balancer's lists there have been in [`Self::output`].
    pub(crate) fn lists_followed(&self) -> u64 {
        self.lists.load(Ordering::Acquire)
    }

    /// Sees every publication from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn hook(&self) -> Option<&Hook> {
        self.hook.as_ref()
    }

    pub(crate) fn read_metrics(&self) -> ChannelMetrics {
        self.metrics.read(self.output().state)
    }

    /// Whether the channel has ended, with its runtime: there will be no other picker.
    pub(crate) fn has_ended(&self) -> bool {
        self.output().state == ConnectivityState::Shutdown
    }

    /// For as long as this is held there is a runtime whose clock can be used: the
    /// caller's, or else the channel's.
    pub(crate) fn clock(&self) -> Option<EnterGuard<'_>> {
        match Handle::try_current() {
            Ok(_) => None,
            Err(_) => self.runtime.as_ref().map(Handle::enter),
        }
    }

    /// Has the channel connect, if it is idle.
    pub(crate) fn wake(&self) {
        if self.output().state == ConnectivityState::Idle {
            self.wake.notify_one();
        }
    }

    /// Waits until somebody wants the channel.
    pub(super) async fn wanted(&self) {
        self.wake.notified().await;
    }

    /// What RPCs meet while nothing is under way: each wakes the channel, and
    /// waits for the next picker.
    pub(super) fn idle(&self) -> Output {
        // Who wanted it before it was idle has been served.
        let _ = self.wanted().now_or_never();
        Output {
            state: ConnectivityState::Idle,
            picker: Arc::new(IdlePicker(Arc::clone(&self.wake))),
        }
    }

    /// `lists` is counted behind the output: who sees the count meets the list.
    pub(super) fn publish(&self, output: Output, settled: bool, lists: u64) {
        let same = Arc::ptr_eq(&self.output.load().picker, &output.picker);
        if !same || self.progress.borrow().settled != settled {
            let state = output.state;
            self.output.store(Arc::new(output));
            // Behind the picker: who is woken finds the new one.
            self.progress.send_modify(|progress| {
                progress.state = state;
                progress.settled = settled;
            });
        }
        self.lists.store(lists, Ordering::Release);
    }
}

#[derive(Debug)]
struct IdlePicker(Arc<Notify>);

impl Picker for IdlePicker {
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        self.0.notify_one();
        Pick::Queue
    }
}
