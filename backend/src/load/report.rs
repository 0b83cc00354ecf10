//! From counters that grow to rates over a window.

use std::collections::BTreeMap;
use std::time::Duration;

use lookaside_proto::orca_v3::OrcaLoadReport;

use super::counters::Totals;

/// Rates over less than this are noise.
const SHORTEST: Duration = Duration::from_millis(10);

/// How busy a backend was over a window of time. `None` is not known.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The time that the rates are over.
    pub window: Duration,
    /// Calls that ended, per second.
    pub qps: f64,
    /// Calls that ended and were errors, per second; at most [`Self::qps`].
    pub eps: f64,
    /// Calls under way, on average.
    pub in_flight: f64,
    /// Share of what the application can do that it does.
    pub utilization: Option<f64>,
    /// Share of the CPU in use.
    pub cpu: Option<f64>,
    /// Share of the memory in use.
    pub memory: Option<f64>,
    /// Shares of the application's own resources, by name.
    pub resources: BTreeMap<String, f64>,
    /// The application's own numbers, by name.
    pub metrics: BTreeMap<String, f64>,
}

/// Counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    /// Since the counting began.
    pub(super) at: Duration,
    pub(super) totals: Totals,
    /// CPU time used.
    pub(super) cpu: Option<Duration>,
}

/// Where a reader stopped reading.
#[derive(Debug)]
pub(crate) struct Window(Mark);

/// What two marks say of the time between them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Measured {
    pub(super) window: Duration,
    pub(super) qps: f64,
    pub(super) eps: f64,
    pub(super) in_flight: f64,
    /// CPUs in use, on average.
    pub(super) cpu: Option<f64>,
}

impl Report {
    /// As ORCA's message.
    #[must_use]
    pub fn to_orca(&self) -> OrcaLoadReport {
        OrcaLoadReport {
            cpu_utilization: self.cpu.unwrap_or_default(),
            mem_utilization: self.memory.unwrap_or_default(),
            application_utilization: self.utilization.unwrap_or_default(),
            rps_fractional: self.qps,
            eps: self.eps,
            utilization: self.resources.clone().into_iter().collect(),
            named_metrics: self.metrics.clone().into_iter().collect(),
            ..OrcaLoadReport::default()
        }
    }
}

impl From<Mark> for Window {
    fn from(mark: Mark) -> Self {
        Self(mark)
    }
}

impl Window {
    /// What happened since the last mark. `None`, and the mark stays, if that is
    /// too short ago.
    pub(super) fn advance(&mut self, now: Mark) -> Option<Measured> {
        let measured = between(&self.0, &now)?;
        self.0 = now;
        Some(measured)
    }
}

fn between(from: &Mark, to: &Mark) -> Option<Measured> {
    let window = to.at.checked_sub(from.at)?;
    if window < SHORTEST {
        return None;
    }
    let seconds = window.as_secs_f64();
    let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
    // Modulo 2⁶⁴ the difference is exact. It is below 0 by nanoseconds if a call
    // began and ended while the stripes were read.
    let busy = to.totals.busy.wrapping_sub(from.totals.busy).cast_signed();
    let cpu = from.cpu.zip(to.cpu);
    let qps = rate(from.totals.ended, to.totals.ended);
    Some(Measured {
        window,
        qps,
        eps: rate(from.totals.errors, to.totals.errors).min(qps),
        in_flight: Duration::from_nanos(busy.max(0).cast_unsigned()).as_secs_f64() / seconds,
        cpu: cpu.map(|(from, to)| to.saturating_sub(from).as_secs_f64() / seconds),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(ms: u64, ended: u64, errors: u64, busy: u64) -> Mark {
        Mark {
            at: Duration::from_millis(ms),
            totals: Totals {
                started: ended,
                ended,
                errors,
                busy,
            },
            cpu: None,
        }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let mut window = Window::from(mark(1_000, 10, 1, 5));
        let measured = window.advance(mark(3_000, 30, 2, 5 + 3_000_000_000));
        let measured = measured.unwrap();
        assert_eq!(measured.window, Duration::from_secs(2));
        assert_eq!((measured.qps, measured.eps), (10.0, 0.5));
        assert_eq!(measured.in_flight, 1.5);
    }

    #[test]
    fn no_time_gives_no_rates_and_loses_no_calls() {
        let mut window = Window::from(mark(0, 0, 0, 0));
        assert_eq!(window.advance(mark(1, 5, 0, 0)), None);
        assert_eq!(window.advance(mark(1_000, 10, 0, 0)).unwrap().qps, 10.0);
    }

    proptest! {
        #[test]
        fn counters_of_any_value_give_rates_that_are_rates(
            from in any::<[u64; 4]>(), to in any::<[u64; 4]>(), cpu in any::<[u64; 2]>(),
        ) {
            let with_cpu = |[at, ended, errors, busy]: [u64; 4], cpu| Mark {
                cpu: Some(Duration::from_nanos(cpu)),
                ..mark(at, ended, errors, busy)
            };
            let (from, to) = (with_cpu(from, cpu[0]), with_cpu(to, cpu[1]));
            if let Some(measured) = between(&from, &to) {
                for rate in [measured.qps, measured.eps, measured.in_flight, measured.cpu.unwrap()] {
                    prop_assert!(rate.is_finite() && rate >= 0.0, "{measured:?}");
                }
                prop_assert!(measured.eps <= measured.qps);
            }
        }

        #[test]
        fn consecutive_windows_lose_and_invent_no_call(
            steps in proptest::collection::vec((0u64..500, 0u64..100, 0u64..100), 1..50),
        ) {
            let mut now = mark(0, 0, 0, 0);
            let mut window = Window::from(now);
            let (mut calls, mut errors, mut busy) = (0.0, 0.0, 0.0);
            for (ms, ended, failed) in &steps {
                now.at += Duration::from_millis(*ms);
                now.totals.ended += ended;
                now.totals.errors += failed.min(ended);
                now.totals.busy += ended * 1_000;
                if let Some(measured) = window.advance(now) {
                    let seconds = measured.window.as_secs_f64();
                    calls += measured.qps * seconds;
                    errors += measured.eps * seconds;
                    busy += measured.in_flight * seconds;
                }
            }
            now.at += Duration::from_secs(1);
            let last = window.advance(now).unwrap();
            let seconds = last.window.as_secs_f64();
            let near = |sum: f64, total: u64| (sum - total as f64).abs() < 1e-6 * (1.0 + sum);
            prop_assert!(near(calls + last.qps * seconds, now.totals.ended));
            prop_assert!(near(errors + last.eps * seconds, now.totals.errors));
            prop_assert!((busy + last.in_flight * seconds - now.totals.busy as f64 / 1e9).abs() < 1e-6);
        }
    }
}
