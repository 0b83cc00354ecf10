//! `feedback`: weights that make utilisation equal.
//!
//! A backend's capacity, calls a second per unit of load, is measured as
//! `weighted_round_robin` does. Divided by it is the *skew*: how much more of the
//! calls a backend gets than its published weight gave it, because clients are
//! not alike. The skew is identified, not integrated: rate and published weight
//! are smoothed alike and compared. So nothing winds up while it has no effect,
//! no delay makes it swing, and what capacity explains is never taken for skew.
//!
//! ```text
//! x = ln(rate / load)       − the median's      capacity
//! s = ln(rate / published)  − the median's      skew, as seen now
//! b ← smoothed s                                skew, as learned
//! W = κ · exp(x − (1 − λ) · b)                  in [0.03, 4], mean 1
//! ```
//!
//! Around that stands what keeps a bad input from a bad weight: nobody rises by
//! more than half in one step; who claims over six times the median's capacity,
//! or three times its own of the last minutes, is not believed; who is silent keeps its
//! weight, and the others share among themselves what they had; nothing is learned from
//! an idle fleet.

mod measured;
mod state;

use std::collections::BTreeMap;
use std::time::Duration;

use self::measured::{is_fresh, ln_capacity, ln_newest_capacity, ln_skew};
use self::state::{Learned, Saved};
use super::moment::{Moment, Rebase};
use super::policy::{Backends, Observed, Probation, WeightPolicy};
use super::signals::Freshness;
use super::statistics::{exp, ln, mean, median};
use crate::model::BackendAddr;

/// Bounds of a weight; the mean is 1.
pub const BOUNDS: (f64, f64) = (0.03, 4.0);

/// A weight grows by no more than this in one step.
const RISE: f64 = 1.5;

/// Below this median utilisation, differences are noise.
const IDLE: f64 = 0.25;

/// Who claims more than so many times the median's capacity is not believed,
/// nor who claims so many times what it had for minutes; who was caught before,
/// so many times.
const INCREDIBLE: f64 = 6.0;
const LEAP: f64 = 3.0;
const LEAP_AGAIN: f64 = 2.0;

/// A backend's skew is measured only after it was listed for so long, and from
/// so many calls.
const LISTED: Duration = Duration::from_secs(10);
const CALLS: f64 = 20.0;

/// How hard a backend that counts no calls is moved towards the median's
/// utilisation, and how far at once, as logarithms.
const WITHOUT_CALLS: (f64, f64) = (0.7, 1.0);

/// Logarithms of capacity are taken no farther from the median than this; what
/// is beyond is no measurement, and its exponential no number.
const FARTHEST: f64 = 50.0;

/// The policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// Share of the learned skew that is let go: it keeps replicas that learn
    /// independently from drifting apart. 0 to 1.
    leak: f64,
    /// The factor from capacities to weights in the last step.
    scale: f64,
    backends: BTreeMap<BackendAddr, Learned>,
}

impl Default for Feedback {
    fn default() -> Self {
        Self {
            leak: 0.03,
            scale: 1.0,
            backends: BTreeMap::new(),
        }
    }
}

impl WeightPolicy for Feedback {
    fn name(&self) -> &'static str {
        "feedback"
    }

    fn weigh(&mut self, backends: &Backends<'_>) -> Vec<f64> {
        for backend in backends.each {
            let learned = self.backends.entry(backend.addr).or_default();
            // Of who leaves, what it had when it was last there; of who is ejected in
            // its probation, too.
            if learned.weighed && (backend.ejected || backend.probation.is_none()) {
                learned.weight_before = Some(learned.weight);
            }
        }
        let fresh: Vec<&Observed<'_>> = backends.each.iter().filter(|b| is_fresh(b)).collect();
        if self.is_idle(backends, &fresh) {
            self.doubt_beginners(backends);
        } else if fresh.len() < 2 {
            self.watch_beginners(backends, None);
        } else {
            let capacity = median(fresh.iter().filter_map(|b| ln_capacity(b)).collect());
            self.step(backends, &fresh, capacity);
            self.watch_beginners(backends, capacity);
        }
        self.answer(backends)
    }

    fn most(&self) -> f64 {
        BOUNDS.1
    }

    fn trusts(&self, backend: BackendAddr, now: Moment) -> bool {
        let learned = self.backends.get(&backend);
        !learned.is_some_and(|learned| learned.is_distrusted(now))
    }

    fn forget(&mut self, backend: BackendAddr) {
        self.backends.remove(&backend);
    }

    fn save(&self, now: Moment) -> Option<serde_json::Value> {
        let each = self.backends.iter().map(|(addr, learned)| {
            let mut learned = learned.clone();
            learned.rebase(now, Moment::ZERO);
            (addr.to_string(), learned)
        });
        serde_json::to_value(Saved {
            scale: self.scale,
            backends: each.collect(),
        })
        .ok()
    }

    fn load(&mut self, saved: serde_json::Value, now: Moment) {
        let Ok(saved) = serde_json::from_value::<Saved>(saved) else {
            return;
        };
        if saved.scale.is_finite() && saved.scale > 0.0 {
            self.scale = saved.scale;
        }
        let each = saved
            .backends
            .into_iter()
            .filter_map(|(addr, mut learned)| {
                learned.rebase(Moment::ZERO, now);
                learned.is_sound().then_some(())?;
                Some((addr.parse().ok()?, learned))
            });
        self.backends = each.collect();
    }
}

impl Feedback {
    /// Moves the weights of the backends that report.
    fn step(&mut self, backends: &Backends<'_>, fresh: &[&Observed<'_>], capacity: Option<f64>) {
        let now = backends.now;
        let skew = median(fresh.iter().filter_map(|b| ln_skew(b)).collect());
        let load = median(
            fresh
                .iter()
                .map(|b| b.signals.utilization() / b.operator)
                .collect(),
        );
        let mut wanted: Vec<Wanted> = Vec::with_capacity(fresh.len());
        for backend in fresh {
            let Some(learned) = self.backends.get_mut(&backend.addr) else {
                continue;
            };
            let mut leaps = false;
            let raw = match (ln_capacity(backend), capacity) {
                (Some(own), Some(median)) => {
                    let x = (own - median).clamp(-FARTHEST, FARTHEST);
                    let leap = if learned.was_caught() {
                        LEAP_AGAIN
                    } else {
                        LEAP
                    };
                    learned.judge(x, (ln(INCREDIBLE), ln(leap)), now);
                    let newest = ln_newest_capacity(backend).map_or(x, |own| own - median);
                    leaps = learned.leaps(newest, (ln(INCREDIBLE), ln(leap)), now);
                    if let (Some(own), Some(median)) = (ln_skew(backend), skew) {
                        learn(learned, backend, own - median, now);
                    }
                    exp(x - (1.0 - self.leak) * learned.skew)
                }
                _ => raw_without_calls(learned, backend, load.unwrap_or(IDLE), self.scale, now),
            };
            wanted.push(Wanted {
                addr: backend.addr,
                raw,
                leaps,
            });
        }
        self.scale = self.scale_of(backends, &wanted, now);
        // Both are in the order of `fresh`, but for who is not known.
        let mut backends = fresh.iter();
        for wanted in wanted {
            let backend = backends.find(|b| b.addr == wanted.addr);
            if let Some(learned) = self.backends.get_mut(&wanted.addr) {
                let most = match backend {
                    _ if wanted.leaps && learned.weighed => learned.weight,
                    Some(backend) if learned.weighed && !backend.warming => RISE * learned.weight,
                    _ => BOUNDS.1,
                };
                move_weight(learned, (self.scale * wanted.raw).min(most), now);
            }
        }
    }

    /// The factor that takes `wanted` to weights: to mean 1 if every backend is
    /// measured, else to the sum that those who are had before.
    fn scale_of(&self, backends: &Backends<'_>, wanted: &[Wanted], now: Moment) -> f64 {
        let trusted = |wanted: &Wanted| {
            let learned = self.backends.get(&wanted.addr)?;
            let trusted = !learned.is_distrusted(now) && !wanted.leaps;
            trusted.then_some((learned, wanted.raw))
        };
        let trusted: Vec<(&Learned, f64)> = wanted.iter().filter_map(trusted).collect();
        let present = backends.each.iter().filter(|b| !b.ejected).count();
        let old = trusted.iter().filter(|(learned, _)| learned.weighed);
        let (before, raw) = old.fold((0.0, 0.0), |(before, sum), (learned, raw)| {
            (before + learned.weight, sum + raw)
        });
        let everybody = wanted.len() == present;
        let scale = if everybody || raw <= 0.0 {
            let sum: f64 = trusted.iter().map(|(_, raw)| raw).sum();
            trusted.len() as f64 / sum
        } else {
            before / raw
        };
        if scale.is_finite() && scale > 0.0 {
            scale
        } else {
            self.scale
        }
    }

    /// Weighs those that began to report: bad news at once, good news only when
    /// there was time to see that it is true.
    fn watch_beginners(&mut self, backends: &Backends<'_>, known: Option<f64>) {
        let reporting: Vec<f64> = backends.each.iter().filter_map(ln_capacity).collect();
        let half = 2 * reporting.len() >= backends.each.len();
        let reference = known.or_else(|| median(reporting).filter(|_| half));
        for backend in backends.each {
            let Some(learned) = self.backends.get_mut(&backend.addr) else {
                continue;
            };
            let begins = backend.freshness == Freshness::Blackout && !learned.weighed;
            if let (true, Some(own), Some(median)) = (begins, ln_capacity(backend), reference) {
                let x = (own - median).clamp(-FARTHEST, FARTHEST);
                learned.weight = exp(x).clamp(BOUNDS.0, 1.0);
                learned.began = true;
            }
        }
    }

    /// Whether half of those who report have nearly nothing to do. They are those who have
    /// reported for a while, or, if there are no two, all. While the weights of most were
    /// never measured, their newest reports count, too: what processes burn as they start
    /// says nothing of their calls.
    fn is_idle(&self, backends: &Backends<'_>, fresh: &[&Observed<'_>]) -> bool {
        let reports = |b: &&Observed<'_>| {
            matches!(b.freshness, Freshness::Known | Freshness::Blackout)
                && !b.ejected
                && b.signals.utilization() > 0.0
        };
        let reporting: Vec<&Observed<'_>> = if fresh.len() < 2 {
            backends.each.iter().filter(reports).collect()
        } else {
            fresh.to_vec()
        };
        let smoothed = reporting.iter().map(|b| b.signals.utilization());
        let mut used = vec![median(smoothed.collect())];
        let weighed = |b: &&&Observed<'_>| self.backends.get(&b.addr).is_some_and(|l| l.weighed);
        if 2 * reporting.iter().filter(weighed).count() < reporting.len() {
            let newest = reporting.iter().filter_map(|b| b.signals.last());
            used.push(median(newest.map(|report| report.utilization).collect()));
        }
        used.iter().any(|used| used.is_none_or(|used| used < IDLE))
    }

    /// What those showed that began to report is noise if there was nothing to do
    /// since; but who would be busy with as much as the others keeps what it has.
    fn doubt_beginners(&mut self, backends: &Backends<'_>) {
        for backend in backends.each {
            if let Some(learned) = self.backends.get_mut(&backend.addr) {
                let usual = backend.signals.utilization() / learned.weight;
                learned.began &= learned.weighed || usual >= IDLE;
            }
        }
    }

    /// Everybody's weight; of those that never reported, the mean of those that
    /// did.
    fn answer(&mut self, backends: &Backends<'_>) -> Vec<f64> {
        let weighed = backends.each.iter().filter_map(|b| {
            let learned = self.backends.get(&b.addr)?;
            learned.weighed.then_some(learned.weight)
        });
        let unknown = mean(&weighed.collect::<Vec<_>>()).unwrap_or(1.0);
        let answer = backends.each.iter().map(|backend| {
            let Some(learned) = self.backends.get_mut(&backend.addr) else {
                return 1.0;
            };
            if !learned.weighed && !learned.began {
                learned.weight = unknown;
            }
            learned.weight = match backend.probation {
                Some(Probation::Joined) => learned.weight.min(1.0),
                Some(Probation::Returned) => {
                    let most = learned.weight_before.unwrap_or(BOUNDS.1);
                    learned.weight.min(most)
                }
                None => learned.weight,
            };
            learned.weight.clamp(BOUNDS.0, BOUNDS.1)
        });
        answer.collect()
    }
}

/// What a backend's weight should be, but for the scale.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    addr: BackendAddr,
    raw: f64,
    /// Its newest report claims so much that it is not given more until it is
    /// known whether that is true.
    leaps: bool,
}

/// Learns how much more than its share a backend gets, if it is the time to.
fn learn(learned: &mut Learned, backend: &Observed<'_>, skew: f64, now: Moment) {
    let new = backend.signals.samples() != learned.samples;
    let enough = backend.signals.calls() - learned.calls >= CALLS;
    let listed = backend.listed_for(now) >= LISTED;
    if new && enough && listed && !backend.warming && !learned.is_distrusted(now) {
        learned.learn(skew.clamp(-FARTHEST, FARTHEST), now);
        learned.samples = backend.signals.samples();
        learned.calls = backend.signals.calls();
    }
}

/// What to scale a weight from if there is but utilisation to go by.
fn raw_without_calls(
    learned: &Learned,
    backend: &Observed<'_>,
    median: f64,
    scale: f64,
    now: Moment,
) -> f64 {
    let published = backend.published.smoothed();
    let settled = !backend.warming && backend.listed_for(now) >= LISTED;
    match published.filter(|_| settled) {
        Some(published) => {
            let (gain, most) = WITHOUT_CALLS;
            let own = backend.signals.utilization() / backend.operator;
            let pull = gain * (ln(median) - ln(own));
            published / backend.operator / scale * exp(pull.clamp(-most, most))
        }
        None => learned.weight / scale,
    }
}

fn move_weight(learned: &mut Learned, wanted: f64, now: Moment) {
    let mut weight = wanted.clamp(BOUNDS.0, BOUNDS.1);
    if learned.is_distrusted(now) {
        // What it had, but no more than a mean share of the calls, which its
        // weight is not if clients favour it.
        let mean_share = exp(-learned.skew).max(BOUNDS.0);
        weight = learned.slow_weight().min(mean_share);
    } else {
        learned.remember(weight, now);
    }
    learned.weight = weight;
    learned.weighed = true;
}

#[cfg(test)]
mod tests;
