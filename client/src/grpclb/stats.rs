//! What a client counts for its balancer: `grpc.lb.v1.ClientStats`.
//!
//! One object per stream: a balancer that restarted must not be told of calls
//! its predecessor has heard of. Counting is lock-free; only a new list and a
//! report take the lock, around the table of drop counters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use lookaside_proto::lb_v1::{ClientStats, ClientStatsPerToken};

use crate::policy::{CallEnd, CallTracker};

/// The counters of one stream.
#[derive(Debug, Default)]
pub(super) struct StreamStats {
    started: AtomicI64,
    finished: AtomicI64,
    failed_to_send: AtomicI64,
    known_received: AtomicI64,
    drops: Mutex<BTreeMap<String, Arc<AtomicI64>>>,
}

impl StreamStats {
    /// The counter for drops by `token`.
    pub(super) fn drop_counter(&self, token: &str) -> Arc<AtomicI64> {
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(drops.entry(token.to_owned()).or_default())
    }

    /// Counts one call that `counter`'s token dropped.
    pub(super) fn dropped(&self, counter: &AtomicI64) {
        self.started.fetch_add(1, Relaxed);
        self.finished.fetch_add(1, Relaxed);
        counter.fetch_add(1, Relaxed);
    }

    /// What was counted since the last call.
    pub(super) fn take(&self, now: SystemTime) -> ClientStats {
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        let mut calls_finished_with_drop = vec![];
        drops.retain(|token, counter| {
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
        ClientStats {
            timestamp: Some(now.into()),
            num_calls_started: self.started.swap(0, Relaxed),
            num_calls_finished: self.finished.swap(0, Relaxed),
            num_calls_finished_with_client_failed_to_send: self.failed_to_send.swap(0, Relaxed),
            num_calls_finished_known_received: self.known_received.swap(0, Relaxed),
            calls_finished_with_drop,
        }
    }
}

impl CallTracker for StreamStats {
    fn started(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    fn finished(&self, end: CallEnd) {
        self.finished.fetch_add(1, Relaxed);
        if !end.sent {
            self.failed_to_send.fetch_add(1, Relaxed);
        }
        if end.received {
            self.known_received.fetch_add(1, Relaxed);
        }
    }
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
        });
        stats.finished(CallEnd {
            sent: false,
            received: false,
        });
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
        assert_eq!(stats.drops.lock().unwrap().len(), 0);
    }
}
