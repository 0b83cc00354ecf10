//! What a client counts for its balancer: `grpc.lb.v1.ClientStats`.
//!
//! One object per stream: a balancer that restarted must not be told of calls
//! its predecessor has heard of. Counting is lock-free; only a new list and a
//! report take the lock, around the table of drop counters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lookaside_proto::lb_v1::{ClientStats, ClientStatsPerToken};

use crate::metrics::Striped;
use crate::policy::{CallEnd, CallTracker};

/// The counters of one stream. Those of calls only grow; reports have what they
/// grew by.
#[derive(Debug, Default)]
pub(super) struct StreamStats {
    started: Striped,
    finished: Striped,
    failed_to_send: Striped,
    known_received: Striped,
    reported: Mutex<Reported>,
}

#[derive(Debug, Default)]
struct Reported {
    started: u64,
    finished: u64,
    failed_to_send: u64,
    known_received: u64,
    /// By token, what was counted since the last report.
    drops: BTreeMap<String, Arc<AtomicI64>>,
}

impl StreamStats {
    /// The counter for drops by `token`.
    pub(super) fn drop_counter(&self, token: &str) -> Arc<AtomicI64> {
        let mut reported = self.reported();
        Arc::clone(reported.drops.entry(token.to_owned()).or_default())
    }

    /// Counts one call that `counter`'s token dropped.
    pub(super) fn dropped(&self, counter: &AtomicI64) {
        self.started.add_one();
        self.finished.add_one();
        counter.fetch_add(1, Relaxed);
    }

    fn reported(&self) -> MutexGuard<'_, Reported> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted since the last call.
    pub(super) fn take(&self, now: SystemTime) -> ClientStats {
        let mut reported = self.reported();
        let mut calls_finished_with_drop = vec![];
        reported.drops.retain(|token, counter| {
            let num_calls = counter.swap(0, Relaxed);
            if num_calls != 0 {
                calls_finished_with_drop.push(ClientStatsPerToken {
                    load_balance_token: token.clone(),
                    num_calls,
                });
            }
            // Tokens of lists gone by would pile up.
            num_calls != 0 || Arc::strong_count(counter) > 1
        });
        // In this order: what happens meanwhile is not finished before it is
        // started, in no report.
        let received = growth(&self.known_received, &mut reported.known_received);
        let failed_to_send = growth(&self.failed_to_send, &mut reported.failed_to_send);
        let finished = growth(&self.finished, &mut reported.finished);
        ClientStats {
            timestamp: Some(now.into()),
            num_calls_started: growth(&self.started, &mut reported.started),
            num_calls_finished: finished,
            num_calls_finished_with_client_failed_to_send: failed_to_send,
            num_calls_finished_known_received: received,
            calls_finished_with_drop,
        }
    }
}

impl CallTracker for StreamStats {
    fn started(&self) {
        self.started.add_one();
    }

    fn finished(&self, end: CallEnd<'_>) {
        self.finished.add_one();
        if !end.sent {
            self.failed_to_send.add_one();
        }
        if end.received {
            self.known_received.add_one();
        }
    }
}

/// By how much `counter` has grown since it was at `before`.
fn growth(counter: &Striped, before: &mut u64) -> i64 {
    let now = counter.sum();
    let growth = now - *before;
    *before = now;
    i64::try_from(growth).unwrap_or(i64::MAX)
}

/// Whether a report says that nothing happened. One such report is sent, the
/// next ones are not: an idle client is quiet.
pub(super) fn is_zero(report: &ClientStats) -> bool {
    let nothing = ClientStats {
        timestamp: report.timestamp,
        ..ClientStats::default()
    };
    *report == nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_every_count_once() {
        let stats = StreamStats::default();
        let drop = stats.drop_counter("rate");
        for _ in 0..3 {
            stats.started();
        }
        stats.finished(CallEnd {
            sent: true,
            received: true,
            ..CallEnd::cancelled()
        });
        stats.finished(CallEnd::cancelled());
        stats.dropped(&drop);
        let report = stats.take(SystemTime::UNIX_EPOCH);
        assert_eq!(report.num_calls_started, 4);
        assert_eq!(report.num_calls_finished, 3);
        assert_eq!(report.num_calls_finished_with_client_failed_to_send, 1);
        assert_eq!(report.num_calls_finished_known_received, 1);
        assert_eq!(report.calls_finished_with_drop.len(), 1);
        assert_eq!(
            report.calls_finished_with_drop[0].load_balance_token,
            "rate"
        );
        assert_eq!(report.calls_finished_with_drop[0].num_calls, 1);
        assert!(is_zero(&stats.take(SystemTime::UNIX_EPOCH)));
    }

    #[test]
    fn tokens_that_no_list_has_are_forgotten() {
        let stats = StreamStats::default();
        for list in 0..1000 {
            let counter = stats.drop_counter(&format!("rate~{list}"));
            stats.dropped(&counter);
            drop(counter);
            stats.take(SystemTime::UNIX_EPOCH);
        }
        stats.take(SystemTime::UNIX_EPOCH);
        assert_eq!(stats.reported().drops.len(), 0);
    }
}
