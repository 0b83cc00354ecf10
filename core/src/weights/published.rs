//! What clients were told, as a backend's own reports would show it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::moment::{Moment, Rebase};
use super::statistics::pull;

/// A list takes about so long to the clients.
const ADOPTION: Duration = Duration::from_secs(1);

/// The weights a backend was published with. They are smoothed exactly as its
/// rate is, so that the ratio of the two is of one moment: how much more or less
/// the backend gets than it was given.
///
/// It always is what clients were really sent, whatever a policy wanted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PublishedWeight {
    now: Option<Step>,
    before: Option<f64>,
    /// When it was first listed, since it was last not.
    listed: Option<Moment>,
    windowed: f64,
    smoothed: Option<f64>,
    advanced: Option<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Step {
    weight: f64,
    since: Moment,
}

impl PublishedWeight {
    /// It was published at `now`: with this weight, above 0, or not listed.
    pub(crate) fn publish(&mut self, weight: Option<f64>, now: Moment) {
        let Some(weight) = weight else {
            *self = Self::default();
            return;
        };
        if self.now.is_some_and(|step| step.weight == weight) {
            return;
        }
        self.before = self.now.map(|step| step.weight);
        self.now = Some(Step { weight, since: now });
        self.listed.get_or_insert(now);
        if self.smoothed.is_none() {
            self.smoothed = Some(weight);
            self.windowed = weight;
            self.advanced = Some(now);
        }
    }

    /// Smooths up to `now`, over `tau` seconds, after averaging over `window`
    /// seconds as the backend does.
    pub(crate) fn advance(&mut self, now: Moment, tau: f64, window: f64) {
        let (Some(step), Some(smoothed)) = (self.now, &mut self.smoothed) else {
            return;
        };
        let effective = match self.before {
            Some(before) if now.since(step.since) < ADOPTION => before,
            _ => step.weight,
        };
        let passed = self.advanced.map_or(0.0, |last| now.seconds_since(last));
        self.windowed += pull(passed, window) * (effective - self.windowed);
        *smoothed += pull(passed, tau) * (self.windowed - *smoothed);
        self.advanced = Some(now);
    }

    /// The smoothed weight; `None` if it is not listed.
    #[must_use]
    pub fn smoothed(&self) -> Option<f64> {
        self.smoothed
    }

    /// The weight that clients have; `None` if it is not listed.
    #[must_use]
    pub fn weight(&self) -> Option<f64> {
        self.now.map(|step| step.weight)
    }

    /// For how long it has been listed.
    #[must_use]
    pub fn listed_for(&self, now: Moment) -> Option<Duration> {
        self.listed.map(|listed| now.since(listed))
    }
}

impl Rebase for PublishedWeight {
    fn rebase(&mut self, from: Moment, to: Moment) {
        if let Some(step) = &mut self.now {
            step.since.rebase(from, to);
        }
        self.listed.rebase(from, to);
        self.advanced.rebase(from, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    #[test]
    fn a_new_weight_shows_after_a_second_and_slowly() {
        let mut published = PublishedWeight::default();
        published.publish(Some(1.0), at(0));
        assert_eq!(published.smoothed(), Some(1.0));
        published.publish(Some(2.0), at(5));
        published.advance(at(5), 10.0, 0.0);
        assert_eq!(published.smoothed(), Some(1.0));
        published.advance(at(15), 10.0, 0.0);
        let smoothed = published.smoothed().unwrap();
        assert!((smoothed - 1.632).abs() < 0.001, "{smoothed}");
        published.publish(None, at(20));
        assert_eq!(published.smoothed(), None);
        assert_eq!(published.listed_for(at(21)), None);
    }
}
