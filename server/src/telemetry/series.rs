//! Series of a metric that are there as long as somebody holds them.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::family::Family;

/// A metric with labels. A series begins, at zero, when its labels are first held, and
/// ends with the last who holds them: so what follows a service of the same name takes
/// over its series, and is not robbed of it by the end of the one before.
#[derive(Debug)]
pub struct Series<S, M> {
    family: Family<S, M>,
    /// How many hold each; those of nobody are not here.
    holders: Arc<Mutex<HashMap<S, usize>>>,
}

/// A series, until this and everybody else's is dropped.
#[derive(Debug)]
pub struct Held<S: Clone + Hash + Eq, M> {
    of: Series<S, M>,
    labels: S,
    metric: M,
}

impl<S: Clone + Hash + Eq, M: Default + Clone> Series<S, M> {
    /// The series with these labels.
    #[must_use]
    pub fn hold(&self, labels: S) -> Held<S, M> {
        let mut holders = self.lock();
        *holders.entry(labels.clone()).or_default() += 1;
        let metric = M::clone(&self.family.get_or_create(&labels));
        drop(holders);
        Held {
            of: self.clone(),
            labels,
            metric,
        }
    }

    /// What is registered, to be encoded.
    #[must_use]
    pub fn family(&self) -> Family<S, M> {
        self.family.clone()
    }
}

impl<S, M> Series<S, M> {
    fn lock(&self) -> MutexGuard<'_, HashMap<S, usize>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S, M> Clone for Series<S, M> {
    fn clone(&self) -> Self {
        Self {
            family: self.family.clone(),
            holders: Arc::clone(&self.holders),
        }
    }
}

impl<S: Clone + Hash + Eq, M: Default> Default for Series<S, M> {
    fn default() -> Self {
        Self {
            family: Family::default(),
            holders: Arc::default(),
        }
    }
}

impl<S: Clone + Hash + Eq, M> Deref for Held<S, M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.metric
    }
}

impl<S: Clone + Hash + Eq, M> Drop for Held<S, M> {
    fn drop(&mut self) {
        let mut holders = self.of.lock();
        if let Some(count) = holders.get_mut(&self.labels) {
            *count -= 1;
            if *count == 0 {
                holders.remove(&self.labels);
                self.of.family.remove(&self.labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    type Numbers = Series<Vec<(String, String)>, Counter>;

    fn labels(service: &str) -> Vec<(String, String)> {
        vec![("service".to_owned(), service.to_owned())]
    }

    fn text(series: &Numbers) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("calls", "Calls", series.family());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_series_begins_at_zero_and_ends_with_its_last_holder() {
        let series = Numbers::default();
        let first = series.hold(labels("greeter.test"));
        assert!(text(&series).contains("calls_total{service=\"greeter.test\"} 0"));
        first.inc();
        let second = series.hold(labels("greeter.test"));
        let other = series.hold(labels("other.test"));
        drop(first);
        second.inc();
        assert!(text(&series).contains("calls_total{service=\"greeter.test\"} 2"));
        drop(second);
        assert!(!text(&series).contains("greeter.test"));
        assert!(text(&series).contains("calls_total{service=\"other.test\"} 0"));
        drop(other);
        // It is another one that begins now.
        let again = series.hold(labels("greeter.test"));
        assert_eq!(again.get(), 0);
    }

    #[test]
    fn holders_that_come_and_go_together_lose_no_count() {
        let series = Numbers::default();
        let _kept = series.hold(labels("greeter.test"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        series.hold(labels("greeter.test")).inc();
                    }
                });
            }
        });
        assert!(text(&series).contains("calls_total{service=\"greeter.test\"} 4000"));
    }
}
