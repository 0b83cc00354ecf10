//! Drops while a service has more calls than its backends can take.
//!
//! While its utilisation stays above the operator's bound, the excess is dropped.
//! The demand is not integrated but identified, as skew is by `feedback`: the
//! utilisation that is reported, over the share of calls that was let through
//! when it was. That share is what clients were really told, smoothed as the
//! reports are. So the share to drop is known at once, and approached slowly
//! enough that reports half a minute late do not make it swing.
//!
//! ```text
//! demand = utilisation / let through then
//! wanted = bound / demand                    at most 1, at least 1 − max
//! ln let through += pull · (ln wanted − ln let through)
//! ```
//!
//! A CPU at its limit reports 1 and no more. Failures count as load, so that one
//! that sheds calls shows more; of one that only queues, the excess is not seen,
//! and the share rises little by little until it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{DropCategory, DropShare, OverloadDrops};
use crate::weights::{Moment, PublishedWeight, Rebase, ServiceLoad, TICK, exp, ln, pull};

/// Utilisation is above the bound for so long before anything is dropped.
const STAYS: Duration = Duration::from_secs(15);

/// Over how many seconds the share follows what is wanted.
const FOLLOWS: f64 = 30.0;

/// With nothing to drop it falls by this much in a second, at least, as a
/// logarithm.
const ENDS: f64 = 0.005;

/// Reports that stand for fewer of the calls say nothing of the service.
const ENOUGH: f64 = 0.5;

/// Without enough of them the share is held for so long, and then falls by so
/// much of all calls in a second.
const HELD: Duration = Duration::from_secs(30);
const FALLS: f64 = 1.0 / 60.0;

/// Shares are told in hundredths, and only if they moved by more than that.
const STEP: f64 = 0.01;
const MOVED: f64 = 0.015;

/// Below this nothing is dropped.
const LEAST: f64 = 0.005;

/// One step makes up for no more than this, however late it is.
const LONGEST: f64 = 15.0;

/// What is remembered of a service's overload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Overload {
    /// The share of calls to let through, as a logarithm; 0 or less.
    through: f64,
    /// The share to drop, in steps.
    share: f64,
    /// The share let through as clients were told.
    told: PublishedWeight,
    /// Since when utilisation is above the bound.
    above: Option<Moment>,
    /// Since when too few report.
    blind: Option<Moment>,
    /// Since when calls are dropped.
    dropping: Option<Moment>,
    stepped: Option<Moment>,
    /// The utilisation that was last compared with the bound; `None` if too few
    /// backends reported any.
    seen: Option<f64>,
}

impl Overload {
    /// The share of calls to drop now, 0 to less than 1. It moves at most every
    /// [`TICK`].
    pub(super) fn step(
        &mut self,
        load: impl FnOnce() -> ServiceLoad,
        drops: Option<OverloadDrops>,
        now: Moment,
    ) -> f64 {
        let Some(drops) = drops else {
            *self = Self::default();
            return 0.0;
        };
        // A clock that jumped back would keep it waiting.
        let last = self.stepped.filter(|last| *last <= now);
        if last.is_some_and(|last| now.since(last) < TICK) {
            return self.share;
        }
        self.stepped = Some(now);
        let seconds = last.map_or(0.0, |last| now.seconds_since(last).min(LONGEST));
        let load = load();
        self.told.advance(now, load.time_constant, load.window);
        let least = ln(1.0 - drops.max());
        let sound = |utilization: &f64| utilization.is_finite() && *utilization >= 0.0;
        let enough = load.covered >= ENOUGH;
        self.seen = load.utilization.filter(sound).filter(|_| enough);
        match self.seen {
            Some(utilization) => {
                self.blind = None;
                let wanted = self.wanted(utilization, drops, now).clamp(least, 0.0);
                let step = pull(seconds, FOLLOWS) * (wanted - self.through);
                // Where there is room the last of it goes as fast as the first.
                let least = if wanted >= 0.0 { ENDS * seconds } else { step };
                self.through += step.max(least);
                if wanted > -LEAST && self.through > -LEAST {
                    self.through = 0.0;
                }
            }
            None => {
                self.above = None;
                let blind = *self.blind.get_or_insert(now);
                if load.covered <= 0.0 || now.since(blind) >= HELD {
                    let through = exp(self.through) + FALLS * seconds;
                    self.through = ln(through.min(1.0));
                }
            }
        }
        self.through = self.through.clamp(least, 0.0);
        self.quantise(drops, now);
        self.share
    }

    /// The share to let through, as a logarithm.
    fn wanted(&mut self, utilization: f64, drops: OverloadDrops, now: Moment) -> f64 {
        if utilization > drops.utilization() {
            self.above.get_or_insert(now);
        } else {
            self.above = None;
        }
        let stays = self.above.is_some_and(|above| now.since(above) >= STAYS);
        if !(stays || self.through < 0.0) || utilization <= 0.0 {
            return 0.0;
        }
        let then = self.told.smoothed().unwrap_or(1.0);
        ln(then) + ln(drops.utilization()) - ln(utilization)
    }

    fn quantise(&mut self, drops: OverloadDrops, now: Moment) {
        let exact = 1.0 - exp(self.through);
        if exact < LEAST {
            self.share = 0.0;
        } else if (exact - self.share).abs() > MOVED {
            let steps = (exact / STEP).round();
            self.share = (steps * STEP).min(drops.max());
        }
        self.share = self.share.min(drops.max());
        if self.share > 0.0 {
            self.dropping.get_or_insert(now);
        } else {
            self.dropping = None;
        }
    }

    /// Clients were told to drop this share.
    pub(super) fn published(&mut self, share: f64, now: Moment) {
        self.told.publish(Some(1.0 - share), now);
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Moment> {
        self.stepped.map(|stepped| stepped.plus(TICK))
    }

    /// The share that is dropped, and for how long it has been.
    pub(super) fn observe(&self, now: Moment) -> OverloadObservation {
        OverloadObservation {
            share: self.share,
            dropping: self.dropping.map(|since| now.since(since)),
            utilization: self.seen,
        }
    }

    /// Whether a saved state can be gone on from.
    pub(super) fn is_sound(&self) -> bool {
        let told = self.told.smoothed().is_none_or(|t| t > 0.0 && t <= 1.0);
        let seen = self.seen.is_none_or(|seen| seen.is_finite() && seen >= 0.0);
        let through = self.through.is_finite() && self.through <= 0.0;
        through && (0.0..1.0).contains(&self.share) && told && seen
    }
}

impl Rebase for Overload {
    fn rebase(&mut self, from: Moment, to: Moment) {
        self.told.rebase(from, to);
        self.above.rebase(from, to);
        self.blind.rebase(from, to);
        self.dropping.rebase(from, to);
        self.stepped.rebase(from, to);
    }
}

/// What is dropped for overload.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OverloadObservation {
    /// Share of the calls that no operator drops, 0 to less than 1.
    pub share: f64,
    /// For how long calls have been dropped; `None` if none are.
    pub dropping: Option<Duration>,
    /// The service's utilisation that was last compared with the operator's bound;
    /// `None` if the reports stand for too few of its calls.
    pub utilization: Option<f64>,
}

/// The operator's drops, and of the calls that they leave the share that
/// overload drops.
pub(super) fn with_overload(operator: &[DropShare], share: f64) -> Vec<DropShare> {
    let left = 1.0 - operator.iter().map(|drop| drop.share).sum::<f64>();
    let category = DropCategory::new(OverloadDrops::CATEGORY).ok();
    let overload = category.and_then(|category| DropShare::new(category, share * left).ok());
    operator.iter().cloned().chain(overload).collect()
}

#[cfg(test)]
mod tests;
