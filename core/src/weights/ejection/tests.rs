//! Who is taken out, and who is not.

use super::*;
use crate::weights::{RawReport, Report, ReportSettings, ReportSource};

fn at(seconds: u64) -> Moment {
    Moment::new(Duration::from_secs(seconds))
}

struct Backends {
    ejector: Ejector,
    each: Vec<(Record, Signals)>,
    healthy: Vec<bool>,
}

impl Backends {
    fn new(count: usize) -> Self {
        Self {
            ejector: Ejector::default(),
            each: vec![(Record::default(), Signals::default()); count],
            healthy: vec![true; count],
        }
    }

    /// Everybody reports a load, 100 calls a second and a share of failures.
    fn report(&mut self, seconds: u64, of: impl Fn(usize) -> (f64, f64)) {
        for (index, (record, signals)) in self.each.iter_mut().enumerate() {
            let (load, failing) = of(index);
            let raw = RawReport {
                source: ReportSource::Orca,
                cpu_utilization: load,
                application_utilization: 0.0,
                named: &[],
                qps: 100.0,
                eps: 100.0 * failing,
            };
            let report = Report::new(&raw, &[]).unwrap();
            let settings = ReportSettings::default();
            signals.apply(&report, at(seconds), record.is_ejected(), &settings);
        }
    }

    fn judge(&mut self, seconds: u64) -> Ejections {
        let each = self.each.iter_mut().zip(&self.healthy);
        let mut judged: Vec<EjectionCandidate<'_>> = each
            .map(|((record, signals), healthy)| EjectionCandidate {
                record,
                signals,
                healthy: *healthy,
            })
            .collect();
        self.ejector.judge(&mut judged, at(seconds))
    }

    /// Reports every five seconds, to `until`.
    fn run(&mut self, from: u64, until: u64, of: impl Fn(usize) -> (f64, f64)) {
        for seconds in (from..=until).step_by(5) {
            self.report(seconds, &of);
            self.judge(seconds);
        }
    }

    fn ejected(&self) -> Vec<usize> {
        let each = self.each.iter().enumerate();
        let out = each.filter(|(_, (record, _))| record.is_ejected());
        out.map(|(index, _)| index).collect()
    }
}

#[test]
fn who_fails_nearly_all_is_out_at_once_and_back_after_thirty_seconds() {
    let mut backends = Backends::new(10);
    let bad = |index| (0.5, if index == 3 { 1.0 } else { 0.0 });
    backends.run(0, 0, bad);
    assert_eq!(backends.ejected(), [3]);
    backends.run(5, 25, bad);
    assert_eq!(backends.ejected(), [3]);
    assert_eq!(backends.judge(29).ended, 0);
    assert_eq!(backends.judge(30).ended, 1);
    // Again, and for longer.
    backends.run(35, 35, bad);
    assert_eq!(backends.ejected(), [3]);
    backends.run(40, 60, bad);
    assert_eq!(backends.ejected(), [3]);
}

#[test]
fn who_fails_more_than_the_others_is_out_after_three_sweeps() {
    let mut backends = Backends::new(20);
    let bad = |index| (0.5, if index == 3 { 0.3 } else { 0.0 });
    backends.run(0, 25, bad);
    assert_eq!(backends.ejected(), [0; 0]);
    backends.run(30, 40, bad);
    assert_eq!(backends.ejected(), [3]);
}

#[test]
fn a_few_shed_calls_or_a_full_machine_eject_nobody() {
    let mut backends = Backends::new(20);
    backends.run(0, 100, |index| (0.5, if index == 3 { 0.05 } else { 0.0 }));
    assert_eq!(backends.ejected(), [0; 0]);
    backends.run(105, 200, |index| (0.95, if index == 3 { 0.5 } else { 0.0 }));
    assert_eq!(backends.ejected(), [0; 0]);
}

#[test]
fn one_in_ten_may_be_out_and_nobody_while_half_are_unhealthy() {
    let mut backends = Backends::new(20);
    backends.run(0, 20, |index| (0.5, if index < 8 { 1.0 } else { 0.0 }));
    assert_eq!(backends.ejected(), [0, 1]);
    let mut backends = Backends::new(20);
    backends.healthy = (0..20).map(|index| index < 10).collect();
    backends.run(0, 20, |index| (0.5, if index < 8 { 1.0 } else { 0.0 }));
    assert_eq!(backends.ejected(), [0; 0]);
}
