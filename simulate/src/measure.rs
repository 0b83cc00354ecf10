//! What a run is judged by.

use crate::hosts::Host;
use crate::scenario::Scenario;

/// A simulation starts with machines that do nothing; before this many seconds
/// nothing is judged.
const WARM_UP: f64 = 120.0;

/// A run is settled after so many seconds, or a quarter of a short one,
const SETTLED: f64 = 300.0;

/// and so many after something happened.
const AFTER_EVENT: f64 = 120.0;

/// Settling is judged by the mean of so many seconds.
const WINDOW: usize = 30;

/// Back within so many times the steady value is settled.
const BACK: f64 = 1.1;

/// Or below this, whatever is steady.
const LEVEL: f64 = 1.15;

/// Time between the points of a picture, in samples.
const PICTURE: usize = 5;

/// How one policy did.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyOutcome {
    /// Its name.
    pub policy: &'static str,
    /// Largest over mean utilisation while settled: the value that it was below
    /// for 99 % of the time.
    pub max_over_avg: f64,
    /// Its mean over the same time.
    pub mean_max_over_avg: f64,
    /// Its mean in the first minute after the last event, and after that.
    pub after_event: Option<(f64, f64)>,
    /// Its mean in the first half of that minute.
    pub first_half_minute: Option<f64>,
    /// The largest utilisation of any backend, smoothed over 10 s; above 1, more
    /// was asked of it than it can do.
    pub worst_utilization: f64,
    /// Seconds from the last event (or the start) until largest over mean is
    /// within 1.1 times its steady value; `None` if it never is.
    pub resettle_s: Option<f64>,
    /// Seconds until it is below 1.15.
    pub level_s: Option<f64>,
    /// Share of the 5 s ticks in which no list was sent.
    pub quiet_ticks: f64,
    /// Share of all requests that failed, after the first two minutes.
    pub failed_share: f64,
    /// How many failed, and of how many.
    pub failed: (f64, f64),
    /// Share of all calls that clients dropped, as they were told, in the same
    /// time; those that failed are a share of the others.
    pub dropped_share: f64,
    /// Traffic of the backends that lie or fail, as a multiple of the mean: the
    /// most, and the most from a minute after that began.
    pub offenders: Option<(f64, f64)>,
    /// Utilisation over time.
    pub picture: Vec<Point>,
}

/// Utilisation of the backends at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Seconds since the start.
    pub at: f64,
    /// The least of any backend.
    pub least: f64,
    /// A tenth of the backends is below this.
    pub low: f64,
    /// The mean.
    pub mean: f64,
    /// A tenth of the backends is above this.
    pub high: f64,
    /// The most of any backend.
    pub most: f64,
}

/// Watches a run.
#[derive(Debug)]
pub(super) struct Measure {
    events: Vec<f64>,
    settled: f64,
    end: f64,
    points: Vec<Point>,
    offenders: Vec<usize>,
    offended: Option<f64>,
    shares: Vec<(f64, f64)>,
    requests: f64,
    failures: f64,
    dropped: f64,
    ticks: u64,
    quiet: u64,
}

impl Measure {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let end = scenario.duration.as_secs_f64();
        let events = scenario.events.iter().map(|event| event.at.as_secs_f64());
        Self {
            events: events.filter(|at| *at > 0.0 && *at < end).collect(),
            settled: SETTLED.min(end / 4.0),
            end,
            points: Vec::new(),
            offenders: Vec::new(),
            offended: None,
            shares: Vec::new(),
            requests: 0.0,
            failures: 0.0,
            dropped: 0.0,
            ticks: 0,
            quiet: 0,
        }
    }

    /// These backends lie or fail from now on.
    pub(super) fn offend(&mut self, now: f64, backends: &[usize]) {
        self.offended.get_or_insert(now);
        for backend in backends {
            if !self.offenders.contains(backend) {
                self.offenders.push(*backend);
            }
        }
    }

    pub(super) fn count(&mut self, now: f64, requests: f64, failures: f64) {
        if now >= WARM_UP.min(self.settled) {
            self.requests += requests;
            self.failures += failures;
        }
    }

    pub(super) fn drop_calls(&mut self, now: f64, dropped: f64) {
        if now >= WARM_UP.min(self.settled) {
            self.dropped += dropped;
        }
    }

    /// A tick passed, with or without a push.
    pub(super) fn tick(&mut self, now: f64, pushed: bool) {
        if now >= WARM_UP.min(self.settled) {
            self.ticks += 1;
            self.quiet += u64::from(!pushed);
        }
    }

    /// Looks at the backends, once a second.
    pub(super) fn sample(&mut self, now: f64, hosts: &[Host]) {
        let counted = hosts.iter().filter(|host| host.counts());
        let mut used: Vec<f64> = counted.map(|host| host.utilization).collect();
        used.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (used.first(), used.last()) else {
            return;
        };
        let count = used.len();
        self.points.push(Point {
            at: now,
            least: *least,
            low: used[count / 10],
            mean: used.iter().sum::<f64>() / count as f64,
            high: used[count - 1 - count / 10],
            most: *most,
        });
        if self.offended.is_some() {
            let all: f64 = hosts.iter().map(|host| host.rate).sum();
            let theirs: f64 = self.offenders.iter().map(|index| hosts[*index].rate).sum();
            let share = theirs / self.offenders.len() as f64 / (all / count as f64);
            self.shares.push((now, share));
        }
    }

    pub(super) fn outcome(self, policy: &'static str) -> PolicyOutcome {
        let last = self.events.iter().copied().fold(0.0, f64::max);
        let ratios: Vec<(f64, f64)> = self.points.iter().map(|p| (p.at, ratio(p))).collect();
        let settled = |at: f64| {
            let disturbed = |event: &f64| (*event..*event + AFTER_EVENT).contains(&at);
            at >= self.settled && !self.events.iter().any(disturbed)
        };
        let mut steady: Vec<f64> = ratios
            .iter()
            .filter(|(at, _)| settled(*at))
            .map(|(_, ratio)| *ratio)
            .collect();
        steady.sort_by(f64::total_cmp);
        let p99 = steady.get(steady.len() * 99 / 100).copied();
        let mean_steady = mean(steady.iter().copied()).unwrap_or(f64::NAN);
        // A third of what is left after the last event, or else what was steady
        // before.
        let third = last + (self.end - last) * 2.0 / 3.0;
        let own = mean(
            ratios
                .iter()
                .filter(|(at, _)| *at >= third)
                .map(|(_, r)| *r),
        );
        let own = own.unwrap_or(mean_steady);
        let minute = |from: f64, to: f64| {
            mean(
                ratios
                    .iter()
                    .filter(|(at, _)| (from..to).contains(at))
                    .map(|(_, ratio)| *ratio),
            )
        };
        let after = minute(last, last + 60.0).zip(minute(last + 60.0, self.end));
        let warm = self
            .points
            .iter()
            .filter(|p| p.at >= WARM_UP.min(self.settled));
        let most = |from: f64| {
            let shares = self.shares.iter().filter(|(at, _)| *at >= from);
            shares.map(|(_, share)| *share).fold(0.0, f64::max)
        };
        PolicyOutcome {
            policy,
            max_over_avg: p99.unwrap_or(f64::NAN),
            mean_max_over_avg: mean_steady,
            after_event: after.filter(|_| last > 0.0),
            first_half_minute: minute(last, last + 30.0).filter(|_| last > 0.0),
            worst_utilization: warm.map(|p| p.most).fold(0.0, f64::max),
            resettle_s: first_below(&ratios, last, BACK * own),
            level_s: first_below(&ratios, last, LEVEL),
            quiet_ticks: self.quiet as f64 / (self.ticks as f64).max(1.0),
            failed_share: self.failures / self.requests.max(1.0),
            failed: (self.failures, self.requests),
            dropped_share: self.dropped / (self.requests + self.dropped).max(1.0),
            offenders: self.offended.map(|since| (most(since), most(since + 60.0))),
            picture: self.points.into_iter().step_by(PICTURE).collect(),
        }
    }
}

fn ratio(point: &Point) -> f64 {
    if point.mean > 0.0 {
        point.most / point.mean
    } else {
        1.0
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

/// Seconds after `from` until the mean of what follows is at most `bound`.
fn first_below(ratios: &[(f64, f64)], from: f64, bound: f64) -> Option<f64> {
    let begin = ratios.partition_point(|(at, _)| *at < from);
    let mut windows = ratios[begin..].windows(WINDOW);
    let good = |window: &&[(f64, f64)]| {
        mean(window.iter().map(|(_, ratio)| *ratio)).is_some_and(|mean| mean <= bound)
    };
    windows.find(good).map(|window| window[0].0 - from)
}
