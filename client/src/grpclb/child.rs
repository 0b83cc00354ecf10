//! What serves RPCs: backends of a balancer's list or fallback addresses, with a
//! policy that picks among them.

use std::sync::Arc;

use lookaside_proto::lb_v1::Server;

use super::picker::{Drops, GrpclbPicker};
use super::stats::StreamStats;
use crate::endpoint::ConnectivityState;
use crate::policy::{Output, Policy, QueuePicker};

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

    pub(super) fn output(&self, lost: Option<&str>) -> Output {
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
    fn explain(&self, inner: Output, lost: Option<&str>) -> Output {
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
        match lost {
            Some(lost) => Output::failure(format!("{lost}; {what}")),
            None => Output::failure(what),
        }
    }
}
