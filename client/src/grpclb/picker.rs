//! The picker over a balancer's list: first whether the RPC's turn is a drop,
//! then the backend whose turn it is.
//!
//! Drops are counted over the full list and backends over those that are ready:
//! while a backend is down, the share of dropped RPCs stays what the balancer
//! wants.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tonic::Status;

use super::list::List;
use super::stats::StreamStats;
use crate::policy::{CallTracker, Pick, PickArgs, Picked, Picker, Position};

/// The drops of one list. Its position outlives pickers: a backend that comes or
/// goes does not restart the round.
#[derive(Debug)]
pub(super) struct Drops {
    turns: Box<[Option<usize>]>,
    tokens: Box<[String]>,
    next: Position,
    status: Status,
}

impl Drops {
    /// `None` if the list drops nothing.
    pub(super) fn of(list: &List) -> Option<Arc<Self>> {
        (!list.drop_turns.is_empty()).then(|| {
            Arc::new(Self {
                turns: list.drop_turns.clone().into(),
                tokens: list.drop_tokens.clone().into(),
                next: Position::default(),
                status: Status::unavailable("call dropped by the balancer"),
            })
        })
    }

    /// Which token drops the next RPC, if one does.
    fn next(&self) -> Option<usize> {
        self.turns[self.next.turn(self.turns.len())]
    }
}

/// Puts drops, tokens and counts on top of another picker.
#[derive(Debug)]
pub(super) struct GrpclbPicker {
    drops: Option<Arc<Drops>>,
    /// Counters by position in [`Drops::tokens`].
    drop_counters: Box<[Arc<AtomicI64>]>,
    backends: Arc<dyn Picker>,
    stats: Arc<StreamStats>,
    tracker: Arc<dyn CallTracker>,
}

impl GrpclbPicker {
    pub(super) fn new(
        drops: Option<Arc<Drops>>,
        backends: Arc<dyn Picker>,
        stats: Arc<StreamStats>,
    ) -> Self {
        let tokens = drops.iter().flat_map(|drops| &drops.tokens);
        Self {
            drop_counters: tokens.map(|token| stats.drop_counter(token)).collect(),
            drops,
            backends,
            tracker: Arc::clone(&stats) as Arc<dyn CallTracker>,
            stats,
        }
    }
}

impl Picker for GrpclbPicker {
    fn pick(&self, args: &PickArgs<'_>) -> Pick<'_> {
        if let Some(drops) = &self.drops
            && !args.is_past_drops()
            && let Some(token) = drops.next()
        {
            self.stats.dropped(&self.drop_counters[token]);
            return Pick::Drop(&drops.status);
        }
        match self.backends.pick(args) {
            Pick::Complete(picked) => Pick::Complete(Picked {
                tracker: Some(&self.tracker),
                ..picked
            }),
            other => other,
        }
    }
}
