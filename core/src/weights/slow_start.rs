//! A backend that was not there is given its share little by little.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::moment::{Moment, Rebase};
use super::policy::Probation;

/// The share that slow start begins with.
const LEAST: f64 = 0.1;

/// The share of a backend that was ejected, until it reports that it does
/// well.
const UNPROVEN: f64 = 0.05;

/// How long after slow start a backend may not be given more than before.
const PROBATION: Duration = Duration::from_secs(60);

/// When a backend came into a service that was running, and whence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SlowStart {
    began: Option<Moment>,
    ejected: bool,
    #[serde(default)]
    known: bool,
}

impl SlowStart {
    /// It comes, at `now`; perhaps from an ejection. `known`: it was there before,
    /// and what it can do was seen.
    pub(super) fn begin(&mut self, now: Moment, ejected: bool, known: bool) {
        self.began = Some(now);
        self.ejected = ejected;
        self.known = known;
    }

    /// The factor on its weight: from a tenth, in `window`, to 1. `does_well`:
    /// whether it reports, and not failures alone.
    pub(super) fn factor(&self, now: Moment, window: Duration, does_well: bool) -> f64 {
        match self.began {
            Some(began) if now.since(began) < window && self.ejected && !does_well => UNPROVEN,
            Some(began) if now.since(began) < window => {
                (now.seconds_since(began) / window.as_secs_f64()).max(LEAST)
            }
            _ => 1.0,
        }
    }

    pub(super) fn is_warming(&self, now: Moment, window: Duration) -> bool {
        self.began.is_some_and(|began| now.since(began) < window)
    }

    pub(super) fn probation(&self, now: Moment, window: Duration) -> Option<Probation> {
        let began = self.began?;
        let returned = self.ejected || self.known;
        (now.since(began) < window.saturating_add(PROBATION)).then_some(if returned {
            Probation::Returned
        } else {
            Probation::Joined
        })
    }
}

impl Rebase for SlowStart {
    fn rebase(&mut self, from: Moment, to: Moment) {
        self.began.rebase(from, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_from_a_tenth_to_all_of_it() {
        let at = |seconds| Moment::new(Duration::from_secs(seconds));
        let window = Duration::from_secs(30);
        let mut start = SlowStart::default();
        assert_eq!(start.factor(at(100), window, true), 1.0);
        start.begin(at(100), false, false);
        assert_eq!(start.factor(at(100), window, true), 0.1);
        assert_eq!(start.factor(at(115), window, true), 0.5);
        assert_eq!(start.factor(at(130), window, true), 1.0);
        assert_eq!(start.probation(at(189), window), Some(Probation::Joined));
        assert_eq!(start.probation(at(190), window), None);
        assert_eq!(start.factor(at(100), Duration::ZERO, true), 1.0);
        start.begin(at(200), true, false);
        assert_eq!(start.factor(at(215), window, false), 0.05);
        assert_eq!(start.factor(at(215), window, true), 0.5);
        assert_eq!(start.factor(at(230), window, false), 1.0, "not for ever");
        start.begin(at(300), false, true);
        assert_eq!(start.factor(at(300), window, false), 0.1);
        assert_eq!(start.probation(at(300), window), Some(Probation::Returned));
    }
}
