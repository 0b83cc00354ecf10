//! What serves RPCs: backends of a balancer's list or fallback addresses, with a
//! policy that picks among them.

use std::sync::Arc;

use lookaside_proto::lb_v1::Server;
use tokio::time::Instant;

use super::picker::{Drops, GrpclbPicker};
use super::stats::StreamStats;
use crate::endpoint::ConnectivityState;
use crate::error::ConnectError;
use crate::policy::{Output, Policy, QueuePicker};
use crate::subchannel::Pool;

/// What RPCs meet now, and what is to take over.
#[derive(Debug, Default)]
pub(super) struct Children {
    serving: Option<Child>,
    /// Takes over once it is ready.
    pending: Option<Child>,
}

impl Children {
    /// What RPCs meet now.
    pub(super) fn serving(&self) -> Option<&Child> {
        self.serving.as_ref()
    }

    /// What serves, or is about to.
    pub(super) fn newest(&self) -> Option<&Child> {
        self.pending.as_ref().or(self.serving.as_ref())
    }

    /// Whether what serves has no backend that is ready.
    pub(super) fn has_failed(&self) -> bool {
        self.serving.as_ref().is_some_and(|child| !child.is_ready())
    }

    /// If the newest is this list already, its calls count for `stats` from now
    /// on. Says whether it is.
    pub(super) fn recount(&mut self, list: &[Server], stats: &Arc<StreamStats>) -> bool {
        let newest = self.pending.as_mut().or(self.serving.as_mut());
        match newest.map(|child| &mut child.source) {
            Some(Source::Balancer {
                servers,
                stats: counted,
                ..
            }) if servers == list => {
                *counted = Arc::clone(stats);
                true
            }
            _ => false,
        }
    }

    /// What is to serve from now on, once [`Children::promote`] finds it ready.
    pub(super) fn install(&mut self, child: Child) {
        self.pending = Some(child);
    }

    /// Lets the newest take over, unless what serves is ready and the newest still
    /// connects. Says whether it did.
    pub(super) fn promote(&mut self) -> bool {
        let serves = self.serving.as_ref().is_some_and(Child::is_ready);
        let waits = self.pending.as_ref().is_none_or(Child::is_connecting);
        if self.pending.is_none() || (serves && waits) {
            return false;
        }
        self.serving = self.pending.take();
        true
    }

    /// Some subchannel changed. Says whether that matters to what serves.
    pub(super) fn refresh(&mut self, pool: &mut Pool) -> bool {
        let serving = self.serving.as_mut();
        let changed = serving.is_some_and(|child| child.policy.refresh(pool));
        if let Some(pending) = &mut self.pending {
            pending.policy.refresh(pool);
        }
        changed
    }

    /// When a policy wants to be refreshed.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let children = [&self.serving, &self.pending].into_iter().flatten();
        let due = children.filter_map(|child| child.policy.next_due());
        due.min()
    }
}

/// A set of backends, and what it came from.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) policy: Box<dyn Policy>,
    pub(super) source: Source,
    /// Whether there is no backend in it at all.
    pub(super) empty: bool,
}

#[derive(Debug)]
pub(super) enum Source {
    Balancer {
        servers: Vec<Server>,
        drops: Option<Arc<Drops>>,
        drops_all: bool,
        stats: Arc<StreamStats>,
    },
    Fallback,
}

impl Child {
    pub(super) fn is_fallback(&self) -> bool {
        matches!(self.source, Source::Fallback)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.drops_all() || self.policy.output().state == ConnectivityState::Ready
    }

    pub(super) fn is_connecting(&self) -> bool {
        !self.drops_all() && self.policy.output().state == ConnectivityState::Connecting
    }

    fn drops_all(&self) -> bool {
        matches!(
            self.source,
            Source::Balancer {
                drops_all: true,
                ..
            }
        )
    }

    pub(super) fn output(&self, lost: Option<&Arc<ConnectError>>) -> Output {
        let inner = self.policy.output();
        match &self.source {
            Source::Balancer {
                drops,
                drops_all,
                stats,
                ..
            } => {
                let backends = match inner.state {
                    ConnectivityState::Ready => inner.picker,
                    // Without a backend nothing is counted as dropped, unless
                    // everything is to be.
                    _ if *drops_all => Arc::new(QueuePicker),
                    _ => return self.explain(inner, lost),
                };
                let stats = Arc::clone(stats);
                Output::ready(GrpclbPicker::new(drops.clone(), backends, stats))
            }
            Source::Fallback => self.explain(inner, lost),
        }
    }

    /// Says in the error text how it came to this.
    fn explain(&self, inner: Output, lost: Option<&Arc<ConnectError>>) -> Output {
        if inner.state != ConnectivityState::TransientFailure {
            return inner;
        }
        let reason = inner.picker.failure().unwrap_or("no backend is ready");
        let what = match (&self.source, self.empty) {
            (Source::Fallback, true) => "there is no fallback address".to_owned(),
            (Source::Fallback, false) => format!("fallback: {reason}"),
            (Source::Balancer { .. }, true) => "the balancer's list has no backend".to_owned(),
            (Source::Balancer { .. }, false) => reason.to_owned(),
        };
        let reason = match lost {
            Some(lost) => format!("{lost}; {what}"),
            None => what,
        };
        // What stands in the backends' way, if they were tried; else why there are none.
        Output::failed_by(reason, inner.picker.cause().or(lost).cloned())
    }
}
