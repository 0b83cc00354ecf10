//! Client statistics, made fit to be counted.
//!
//! They come from anybody who can open a stream. So counts are bounded, and the
//! only names that come out are those of the service's own drop categories.

use lookaside_proto::lb_v1::ClientStats;

use lookaside_core::model::{DropShare, OverloadDrops};

/// Most calls that one report is believed to be about.
const MAX_CALLS: u64 = 1_000_000_000;

/// Separates a drop category from a nonce in a token.
const NONCE_SEPARATOR: char = '~';

/// A report of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts<'a> {
    pub(super) started: u64,
    pub(super) finished: u64,
    pub(super) failed_to_send: u64,
    pub(super) known_received: u64,
    /// Dropped calls by category; `None` is every other name.
    pub(super) dropped: Vec<(Option<&'a str>, u64)>,
    /// Whether a count was negative or too large.
    pub(super) implausible: bool,
}

impl<'a> Counts<'a> {
    /// Reads a report about a service whose drop categories are `drops`, and
    /// overload's.
    pub(super) fn read(stats: &ClientStats, drops: &'a [DropShare]) -> Self {
        let mut implausible = false;
        let mut count = |calls: i64| match u64::try_from(calls) {
            Ok(calls) if calls <= MAX_CALLS => calls,
            Ok(_) => {
                implausible = true;
                MAX_CALLS
            }
            Err(_) => {
                implausible = true;
                0
            }
        };
        let mut dropped: Vec<(Option<&str>, u64)> = Vec::new();
        for drop in &stats.calls_finished_with_drop {
            let token = &drop.load_balance_token;
            let name = token.split(NONCE_SEPARATOR).next().unwrap_or_default();
            let known = drops.iter().map(|drop| drop.category.as_str());
            let mut known = known.chain([OverloadDrops::CATEGORY]);
            let category = known.find(|known| *known == name);
            let calls = count(drop.num_calls);
            match dropped.iter_mut().find(|(seen, _)| *seen == category) {
                Some((_, sum)) => *sum = (*sum + calls).min(MAX_CALLS),
                None => dropped.push((category, calls)),
            }
        }
        Self {
            started: count(stats.num_calls_started),
            finished: count(stats.num_calls_finished),
            failed_to_send: count(stats.num_calls_finished_with_client_failed_to_send),
            known_received: count(stats.num_calls_finished_known_received),
            dropped,
            implausible,
        }
    }
}

#[cfg(test)]
mod tests {
    use lookaside_proto::lb_v1::ClientStatsPerToken;
    use proptest::prelude::*;

    use super::*;
    use lookaside_core::model::DropCategory;

    fn drops(categories: &[&str]) -> Vec<DropShare> {
        let category = |name: &&str| DropCategory::new(name).unwrap();
        let share = |name| DropShare::new(category(name), 0.1).unwrap();
        categories.iter().map(share).collect()
    }

    fn dropped(token: &str, num_calls: i64) -> ClientStatsPerToken {
        ClientStatsPerToken {
            load_balance_token: token.to_owned(),
            num_calls,
        }
    }

    #[test]
    fn drops_are_counted_by_the_categories_of_the_service_alone() {
        let drops = drops(&["maintenance", "overload"]);
        let stats = ClientStats {
            calls_finished_with_drop: vec![
                dropped("overload", 1),
                dropped("maintenance", 2),
                dropped("overload~8-bytes.", 3),
                dropped("Overload", 4),
                dropped("", 5),
                dropped("overload ~", 6),
            ],
            ..ClientStats::default()
        };
        let counts = Counts::read(&stats, &drops);
        assert_eq!(
            counts.dropped,
            [(Some("overload"), 4), (Some("maintenance"), 2), (None, 15)]
        );
        assert!(!counts.implausible);
    }

    proptest! {
        #[test]
        fn no_count_is_beyond_belief(
            started: i64,
            finished: i64,
            failed_to_send: i64,
            known_received: i64,
            calls: Vec<i64>,
        ) {
            let stats = ClientStats {
                timestamp: None,
                num_calls_started: started,
                num_calls_finished: finished,
                num_calls_finished_with_client_failed_to_send: failed_to_send,
                num_calls_finished_known_received: known_received,
                calls_finished_with_drop: calls.iter().map(|n| dropped("x", *n)).collect(),
            };
            let counts = Counts::read(&stats, &[]);
            let dropped = counts.dropped.iter().map(|(_, calls)| *calls);
            let counted = [
                counts.started,
                counts.finished,
                counts.failed_to_send,
                counts.known_received,
            ];
            prop_assert!(dropped.chain(counted).all(|calls| calls <= MAX_CALLS));
            let sent = [started, finished, failed_to_send, known_received];
            let believable = |n: &i64| (0..=MAX_CALLS.cast_signed()).contains(n);
            let all = sent.iter().chain(&calls).all(believable);
            prop_assert_eq!(counts.implausible, !all);
        }
    }
}
