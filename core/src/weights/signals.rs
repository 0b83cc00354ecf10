//! What is known of a backend's load: its reports, smoothed.
//!
//! Utilisation and rate are smoothed by the same factor, always: only then is
//! their ratio, calls per unit of load, that of one moment. Unknown is not
//! zero: a backend that says nothing keeps the weight it has.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::moment::{Moment, Rebase};
use super::report::Report;
use super::statistics::pull;

/// A weight rests on reports for at least so long.
const BLACKOUT: Duration = Duration::from_secs(10);

/// Reports that do not come for so many intervals are missed.
const STALE_INTERVALS: f64 = 3.0;

/// After so long without a report, nothing is known.
const EXPIRED: Duration = Duration::from_secs(180);

/// What comes faster than this is a flood, and only its first counts.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);

/// Smoothing lasts so many calls, within bounds: the fewer, the noisier.
const SMOOTHED_CALLS: f64 = 500.0;
const SMOOTHED_SECONDS: (f64, f64) = (10.0, 60.0);

/// A report stands for no more than this, however late it comes.
const LONGEST_INTERVAL: f64 = 60.0;

/// How far what is known of a backend is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// It never reported, or long ago.
    Unknown,
    /// It began to report less than ten seconds ago.
    Blackout,
    /// It reports.
    Known,
    /// Its reports stopped coming.
    Stale,
}

impl Freshness {
    /// Every state, for metrics.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Blackout, Self::Known, Self::Stale];

    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Blackout => "blackout",
            Self::Known => "known",
            Self::Stale => "stale",
        }
    }
}

/// How reports are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReportSettings {
    /// How often backends are asked to report.
    pub interval: Duration,
    /// Over what time the backends average their utilisation before they tell
    /// it; `None`: as is usual for how they report.
    pub load_window: Option<Duration>,
    /// What share of a machine failing every call counts for. 1 keeps a backend
    /// that fails fast from looking idle.
    pub error_penalty: f64,
}

impl Default for ReportSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            load_window: None,
            error_penalty: 1.0,
        }
    }
}

/// The load of one backend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// Smoothed utilisation, failures included.
    utilization: f64,
    /// Smoothed calls a second.
    qps: f64,
    /// Calls a second as averaged like the backend averages its utilisation.
    windowed_qps: f64,
    window: f64,
    last: Option<LastReport>,
    counts_calls: bool,
    /// Reports that counted since the smoothing began.
    samples: u64,
    /// When the reports that go on now began.
    began: Option<Moment>,
    /// The last report of any kind.
    seen: Option<Moment>,
    /// The last that counted.
    sampled: Option<Moment>,
    /// Smoothed time between reports.
    interval: Option<f64>,
    calls: f64,
    failures: f64,
}

/// The newest report.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LastReport {
    /// Share of its capacity in use.
    pub load: f64,
    /// The same, and what its failures count for.
    pub utilization: f64,
    /// Calls a second.
    pub qps: f64,
    /// Failed calls a second.
    pub eps: f64,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Applied {
    /// It counts.
    Counted,
    /// It only shows that the backend is there.
    Alive,
    /// It came too soon after the one before.
    TooSoon,
}

impl Signals {
    /// Takes a report that came at `at`. While a backend is `ejected`, a report
    /// only shows that it is there: what it says of its load is of no use.
    pub fn apply(
        &mut self,
        report: &Report,
        at: Moment,
        ejected: bool,
        settings: &ReportSettings,
    ) -> Applied {
        if let Some(seen) = self.seen {
            if at < seen {
                // The clock jumped back. What follows is measured from here.
                self.rebase(seen, at);
            }
            let passed = at.since(seen);
            if passed < LEAST_INTERVAL {
                return Applied::TooSoon;
            }
            if passed >= EXPIRED {
                self.restart();
            } else {
                let seconds = passed.as_secs_f64().min(LONGEST_INTERVAL);
                let interval = self.interval.get_or_insert(seconds);
                *interval += 0.3 * (seconds - *interval);
            }
        }
        self.seen = Some(at);
        let without_calls = report.qps() == 0.0 && self.counts_calls;
        let idle = report.load() == 0.0 && !report.source().measures_idleness();
        if ejected || without_calls || idle {
            return Applied::Alive;
        }
        self.began.get_or_insert(at);
        self.counts_calls |= report.qps() > 0.0;
        self.smooth(report, at, settings);
        Applied::Counted
    }

    fn smooth(&mut self, report: &Report, at: Moment, settings: &ReportSettings) {
        let penalty = if self.counts_calls {
            settings.error_penalty * report.failing_share()
        } else {
            0.0
        };
        let utilization = report.load() + penalty;
        let window = settings.load_window;
        let window = window.unwrap_or_else(|| report.source().load_window());
        self.window = window.as_secs_f64();

        let asked = settings.interval.as_secs_f64();
        let passed = self.sampled.map_or(asked, |last| at.seconds_since(last));
        self.samples += 1;
        let first = 1.0 / self.samples as f64;
        let windowed = pull(passed, self.window).max(first);
        self.windowed_qps += windowed * (report.qps() - self.windowed_qps);
        let smoothed = pull(passed, self.time_constant()).max(first);
        self.utilization += smoothed * (utilization - self.utilization);
        self.qps += smoothed * (self.windowed_qps - self.qps);

        let stands_for = passed.min(LONGEST_INTERVAL);
        self.calls += report.qps().max(report.eps()) * stands_for;
        self.failures += report.eps() * stands_for;
        self.sampled = Some(at);
        self.last = Some(LastReport {
            load: report.load(),
            utilization,
            qps: report.qps(),
            eps: report.eps(),
        });
    }

    /// Forgets the load, as after an ejection: what is measured next begins
    /// anew.
    pub fn restart(&mut self) {
        let kept = std::mem::take(self);
        self.seen = kept.seen;
        self.interval = kept.interval;
        self.counts_calls = kept.counts_calls;
        self.calls = kept.calls;
        self.failures = kept.failures;
        self.samples = 0;
    }

    /// Smoothed utilisation, failures included; 0 before it reported any.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        self.utilization
    }

    /// Smoothed calls a second; 0 if the backend does not count them.
    #[must_use]
    pub fn qps(&self) -> f64 {
        self.qps
    }

    /// The newest report that counted.
    #[must_use]
    pub fn last(&self) -> Option<LastReport> {
        self.last
    }

    /// Whether the backend counts calls.
    #[must_use]
    pub fn counts_calls(&self) -> bool {
        self.counts_calls
    }

    /// How many reports counted since its load began to be measured.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Calls reported so far, ever.
    #[must_use]
    pub fn calls(&self) -> f64 {
        self.calls
    }

    /// Failed calls reported so far, ever.
    #[must_use]
    pub fn failures(&self) -> f64 {
        self.failures
    }

    /// Time since the last report of any kind; `None` if there was none.
    #[must_use]
    pub fn age(&self, now: Moment) -> Option<Duration> {
        self.seen.map(|seen| now.since(seen))
    }

    /// Over how many seconds the smoothing forgets.
    #[must_use]
    pub fn time_constant(&self) -> f64 {
        let (least, most) = SMOOTHED_SECONDS;
        if self.counts_calls {
            (SMOOTHED_CALLS / self.qps).clamp(least, most)
        } else {
            least
        }
    }

    /// Over how many seconds the backend itself averages.
    #[must_use]
    pub fn window(&self) -> f64 {
        self.window
    }

    /// Whether it counts calls and has had none for a while: what is known of its
    /// load is of before. `asked` is how often it should report.
    #[must_use]
    pub fn is_idle(&self, now: Moment, asked: Duration) -> bool {
        let interval = self.interval.unwrap_or(0.0).max(asked.as_secs_f64());
        let idle = |sampled| now.seconds_since(sampled) > STALE_INTERVALS * interval;
        self.counts_calls && self.sampled.is_some_and(idle)
    }

    /// How far it is to be trusted. `asked` is how often it should report.
    #[must_use]
    pub fn freshness(&self, now: Moment, asked: Duration) -> Freshness {
        let (Some(seen), Some(began)) = (self.seen, self.began) else {
            return Freshness::Unknown;
        };
        let silent = now.since(seen);
        let interval = self.interval.unwrap_or(0.0).max(asked.as_secs_f64());
        if silent >= EXPIRED {
            Freshness::Unknown
        } else if silent.as_secs_f64() > STALE_INTERVALS * interval {
            Freshness::Stale
        } else if now.since(began) < BLACKOUT {
            Freshness::Blackout
        } else {
            Freshness::Known
        }
    }
}

impl Rebase for Signals {
    fn rebase(&mut self, from: Moment, to: Moment) {
        self.began.rebase(from, to);
        self.seen.rebase(from, to);
        self.sampled.rebase(from, to);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::weights::report::{RawReport, ReportSource};

    const ASKED: Duration = Duration::from_secs(5);

    fn at(seconds: f64) -> Moment {
        Moment::new(Duration::from_secs_f64(seconds))
    }

    fn report(load: f64, qps: f64, eps: f64) -> Report {
        let raw = RawReport {
            source: ReportSource::Orca,
            cpu_utilization: load,
            application_utilization: 0.0,
            named: &[],
            qps,
            eps,
        };
        Report::new(&raw, &[]).unwrap()
    }

    fn apply(signals: &mut Signals, load: f64, qps: f64, seconds: f64) -> Applied {
        let report = report(load, qps, 0.0);
        signals.apply(&report, at(seconds), false, &ReportSettings::default())
    }

    #[test]
    fn no_load_is_a_sign_of_life_and_a_measurement_where_nothing_else_is_told() {
        let apply = |signals: &mut Signals, source, load, seconds| {
            let raw = RawReport {
                source,
                cpu_utilization: load,
                application_utilization: 0.0,
                named: &[],
                qps: 0.0,
                eps: 0.0,
            };
            let report = Report::new(&raw, &[]).unwrap();
            signals.apply(&report, at(seconds), false, &ReportSettings::default())
        };
        let mut signals = Signals::default();
        assert_eq!(
            apply(&mut signals, ReportSource::Orca, 0.0, 0.0),
            Applied::Alive
        );
        assert_eq!(signals.age(at(2.0)), Some(Duration::from_secs(2)));
        assert_eq!(signals.freshness(at(2.0), ASKED), Freshness::Unknown);

        let mut signals = Signals::default();
        for (second, load) in [(0.0, 0.5), (5.0, 0.0), (10.0, 0.0)] {
            let applied = apply(&mut signals, ReportSource::LoadReport, load, second);
            assert_eq!(applied, Applied::Counted);
        }
        assert!(signals.utilization() < 0.25 && signals.utilization() > 0.0);
    }

    #[test]
    fn reports_are_known_after_ten_seconds_stale_after_three_intervals_and_then_forgotten() {
        let mut signals = Signals::default();
        assert_eq!(signals.freshness(at(0.0), ASKED), Freshness::Unknown);
        for second in [0.0, 5.0, 9.0] {
            apply(&mut signals, 0.5, 100.0, second);
            assert_eq!(signals.freshness(at(second), ASKED), Freshness::Blackout);
        }
        assert_eq!(signals.freshness(at(10.0), ASKED), Freshness::Known);
        assert_eq!(signals.freshness(at(24.0), ASKED), Freshness::Known);
        assert_eq!(signals.freshness(at(24.1), ASKED), Freshness::Stale);
        assert_eq!(signals.freshness(at(189.0), ASKED), Freshness::Unknown);
        apply(&mut signals, 0.7, 100.0, 190.0);
        assert_eq!(signals.freshness(at(190.0), ASKED), Freshness::Blackout);
        assert_eq!(signals.utilization(), 0.7);
    }

    #[test]
    fn a_backend_that_reports_every_thirty_seconds_is_not_stale_in_between() {
        let mut signals = Signals::default();
        for report in 0..10 {
            apply(&mut signals, 0.5, 100.0, f64::from(report) * 30.0);
        }
        assert_eq!(signals.freshness(at(329.0), ASKED), Freshness::Known);
    }

    #[test]
    fn reports_without_calls_show_life_only_once_calls_were_counted() {
        let mut signals = Signals::default();
        assert_eq!(apply(&mut signals, 0.5, 0.0, 0.0), Applied::Counted);
        assert_eq!(apply(&mut signals, 0.5, 10.0, 5.0), Applied::Counted);
        assert_eq!(apply(&mut signals, 0.01, 0.0, 10.0), Applied::Alive);
        assert_eq!(signals.utilization(), 0.5);
        assert_eq!(signals.age(at(11.0)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn failures_are_load() {
        let mut signals = Signals::default();
        let failing = report(0.02, 100.0, 100.0);
        signals.apply(&failing, at(0.0), false, &ReportSettings::default());
        assert!((signals.utilization() - 1.02).abs() < 1e-12);
        assert!((signals.last().unwrap().utilization - 1.02).abs() < 1e-12);

        let forgiving = ReportSettings {
            error_penalty: 0.0,
            ..ReportSettings::default()
        };
        let mut signals = Signals::default();
        signals.apply(&failing, at(0.0), false, &forgiving);
        assert_eq!(signals.utilization(), 0.02);
        assert_eq!(signals.last().unwrap().utilization, 0.02);
    }

    proptest! {
        #[test]
        fn a_flood_and_a_jumping_clock_leave_sound_numbers(
            reports in proptest::collection::vec((1e-9..100.0, 0.0..1e9, 0.0..1e9, 0u64..1_000_000), 1..60),
        ) {
            let mut signals = Signals::default();
            for (load, qps, eps, millis) in reports {
                let now = Moment::new(Duration::from_millis(millis));
                signals.apply(&report(load, qps, eps), now, false, &ReportSettings::default());
                prop_assert!(signals.utilization() > 0.0 && signals.utilization() <= 101.0);
                prop_assert!((0.0..=1e9).contains(&signals.qps()));
                prop_assert!((10.0..=60.0).contains(&signals.time_constant()));
            }
        }
    }
}
