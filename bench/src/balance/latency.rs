//! How long calls took, as counts by the millisecond.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Calls, and the latencies of those that were answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Latencies {
    pub(super) calls: u64,
    pub(super) failed: u64,
    by_ms: BTreeMap<u64, u64>,
}

impl Latencies {
    /// Adds a call, and how long its answer took, if it had one.
    pub(super) fn add(&mut self, took: Option<Duration>) {
        self.calls += 1;
        match took {
            Some(took) => {
                let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                *self.by_ms.entry(ms).or_default() += 1;
            }
            None => self.failed += 1,
        }
    }

    /// Adds what another process counted, as its [`fmt::Display`] has it. None if it
    /// makes no sense.
    pub(super) fn add_numbers(&mut self, numbers: &[u64]) -> Option<()> {
        let (&[calls, failed], counts) = numbers.split_first_chunk()?;
        self.calls += calls;
        self.failed += failed;
        let (pairs, []) = counts.as_chunks() else {
            return None;
        };
        for &[ms, count] in pairs {
            *self.by_ms.entry(ms).or_default() += count;
        }
        Some(())
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        for (ms, count) in &other.by_ms {
            *self.by_ms.entry(*ms).or_default() += count;
        }
    }

    /// The ms that `share` of the answered calls did not exceed; not a number
    /// without calls.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let answered: u64 = self.by_ms.values().sum();
        let rank = (answered as f64 * share).ceil() as u64;
        let mut below = 0;
        let found = self.by_ms.iter().find(|(_, count)| {
            below += **count;
            below >= rank
        });
        found.map_or(f64::NAN, |(ms, _)| *ms as f64)
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.calls, self.failed)?;
        self.by_ms
            .iter()
            .try_for_each(|(ms, count)| write!(f, " {ms} {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_in_numbers_is_what_was_counted() {
        let mut latencies = Latencies::default();
        for ms in 1..=100 {
            latencies.add(Some(Duration::from_millis(ms)));
        }
        latencies.add(None);
        let told = latencies.to_string();
        let numbers: Vec<u64> = told.split(' ').map(|n| n.parse().unwrap()).collect();
        let mut twice = Latencies::default();
        twice.add_numbers(&numbers).unwrap();
        assert_eq!(twice, latencies);
        twice.merge(&latencies);
        assert_eq!((twice.calls, twice.failed), (202, 2));
        assert_eq!((twice.quantile(0.5), twice.quantile(0.99)), (50.0, 99.0));
        assert_eq!(twice.add_numbers(&numbers[..5]), None);
        assert!(Latencies::default().quantile(0.5).is_nan());
    }
}
