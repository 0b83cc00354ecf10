//! Which backends fail so much that they are taken out for a while.
//!
//! The numbers are those of gRPC's outlier detection (gRFC A50), with one
//! difference: among healthy peers the deviation is next to nothing, so that
//! one shed call would eject, the others get its load, and shed too. A gap must
//! be ten points at least, for three sweeps running, and a backend at its limit
//! is not ejected for it: it needs less, not nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::moment::{Moment, Rebase};
use super::signals::Signals;
use super::statistics::mean;

/// Time between two looks at success rates.
const SWEEP: Duration = Duration::from_secs(10);

/// The first ejection lasts so long, the nth n times that, up to the longest.
const LASTS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

/// A backend that fails this share of this many calls is ejected.
const FAILING: (f64, f64) = (0.85, 50.0);

/// Success rates are compared between this many backends of this many calls.
const COMPARED: (usize, f64) = (5, 100.0);

/// How far below the mean a success rate must be: deviations, and points.
const GAP: (f64, f64) = (1.9, 0.10);

/// In how many sweeps running.
const SWEEPS: u32 = 3;

/// A backend that reports so much load fails for that reason.
const AT_ITS_LIMIT: f64 = 0.9;

/// Share of the backends that may be ejected at a time; always one may.
const MOST: f64 = 0.1;

/// Nobody is ejected while fewer than this share are healthy.
const PANIC: f64 = 0.5;

/// What is remembered of a backend's failures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    until: Option<Moment>,
    /// How often it was ejected, less the sweeps it did well since.
    times: u32,
    /// Sweeps running in which it was far below the others.
    below: u32,
    calls: f64,
    failures: f64,
}

/// A backend to judge.
#[derive(Debug)]
pub(super) struct EjectionCandidate<'a> {
    pub(super) record: &'a mut Record,
    pub(super) signals: &'a mut Signals,
    /// Whether it gets calls, as far as its health goes.
    pub(super) healthy: bool,
}

/// What a look at the backends came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ejections {
    /// Ejections that began.
    pub enforced: u64,
    /// Ejections that would have, but for the limit on how many.
    pub not_enforced: u64,
    /// Ejections that ended.
    pub ended: u64,
}

/// Looks at the failures of a service's backends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ejector {
    swept: Option<Moment>,
}

impl Record {
    pub(super) fn is_ejected(&self) -> bool {
        self.until.is_some()
    }

    /// When it comes back.
    pub(super) fn until(&self) -> Option<Moment> {
        self.until
    }
}

impl Ejector {
    /// Ends ejections whose time has come, and begins new ones.
    pub(super) fn judge(
        &mut self,
        backends: &mut [EjectionCandidate<'_>],
        now: Moment,
    ) -> Ejections {
        let mut outcome = Ejections::default();
        for backend in backends.iter_mut() {
            if backend.record.until.is_some_and(|until| until <= now) {
                backend.record.until = None;
                outcome.ended += 1;
            }
        }
        let swept = *self.swept.get_or_insert(now);
        let sweep = now.since(swept) >= SWEEP;
        let guilty = |(index, backend): (usize, &EjectionCandidate<'_>)| {
            let (calls, failures) = backend.window();
            let (share, least) = FAILING;
            let failing = calls >= least && failures >= share * calls;
            (failing && !backend.record.is_ejected()).then_some(index)
        };
        let mut guilty: Vec<usize> = backends.iter().enumerate().filter_map(guilty).collect();
        if sweep {
            guilty.extend(compare(backends));
        }
        for index in guilty {
            if backends[index].record.is_ejected() {
                continue;
            }
            if may_eject(backends) {
                eject(&mut backends[index], now);
                outcome.enforced += 1;
            } else {
                outcome.not_enforced += u64::from(sweep);
            }
        }
        if sweep {
            self.swept = Some(now);
            for backend in backends.iter_mut() {
                if !backend.record.is_ejected() && backend.record.below == 0 {
                    backend.record.times = backend.record.times.saturating_sub(1);
                }
                backend.begin_window();
            }
        }
        outcome
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Moment> {
        self.swept.map(|swept| swept.plus(SWEEP))
    }
}

impl EjectionCandidate<'_> {
    /// Calls and failures since the last sweep.
    fn window(&self) -> (f64, f64) {
        let calls = self.signals.calls() - self.record.calls;
        (calls, self.signals.failures() - self.record.failures)
    }

    fn begin_window(&mut self) {
        self.record.calls = self.signals.calls();
        self.record.failures = self.signals.failures();
    }
}

/// Those whose success rate was far below the mean often enough.
fn compare(backends: &mut [EjectionCandidate<'_>]) -> Vec<usize> {
    let (hosts, least) = COMPARED;
    let rates = backends.iter().map(|backend| {
        let (calls, failures) = backend.window();
        let counts = calls >= least && !backend.record.is_ejected();
        counts.then(|| 1.0 - (failures / calls).min(1.0))
    });
    let rates: Vec<Option<f64>> = rates.collect();
    let counted: Vec<f64> = rates.iter().copied().flatten().collect();
    let Some(mean) = mean(&counted).filter(|_| counted.len() >= hosts) else {
        return Vec::new();
    };
    let squares = counted.iter().map(|rate| (rate - mean) * (rate - mean));
    let deviation = (squares.sum::<f64>() / counted.len() as f64).sqrt();
    let bound = mean - (GAP.0 * deviation).max(GAP.1);
    let mut guilty = Vec::new();
    for (index, (backend, rate)) in backends.iter_mut().zip(rates).enumerate() {
        let Some(rate) = rate else {
            continue;
        };
        let load = backend.signals.last().map_or(0.0, |last| last.load);
        if rate < bound && load < AT_ITS_LIMIT {
            backend.record.below += 1;
            if backend.record.below >= SWEEPS {
                guilty.push(index);
            }
        } else {
            backend.record.below = 0;
        }
    }
    guilty
}

fn may_eject(backends: &[EjectionCandidate<'_>]) -> bool {
    let count = backends.len() as f64;
    let ejected = backends.iter().filter(|b| b.record.is_ejected()).count() as f64;
    let healthy =
        |backend: &&EjectionCandidate<'_>| backend.healthy && !backend.record.is_ejected();
    let healthy = backends.iter().filter(healthy).count() as f64;
    ejected + 1.0 <= (MOST * count).max(1.0) && healthy - 1.0 >= PANIC * count
}

fn eject(backend: &mut EjectionCandidate<'_>, now: Moment) {
    let record = &mut *backend.record;
    record.times = record.times.saturating_add(1);
    record.below = 0;
    let (first, longest) = LASTS;
    let lasts = first.saturating_mul(record.times).min(longest);
    record.until = Some(now.plus(lasts));
    backend.signals.restart();
    backend.begin_window();
}

impl Rebase for Record {
    fn rebase(&mut self, from: Moment, to: Moment) {
        self.until.rebase(from, to);
    }
}

impl Rebase for Ejector {
    fn rebase(&mut self, from: Moment, to: Moment) {
        self.swept.rebase(from, to);
    }
}

#[cfg(test)]
mod tests;
