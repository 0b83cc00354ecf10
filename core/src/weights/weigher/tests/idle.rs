//! Backends that have nothing to do: they are there, and nothing is known against
//! them.

use super::*;

/// What an idle backend reports, by the way in which it does.
fn idle(source: ReportSource) -> Report {
    let raw = RawReport {
        source,
        cpu_utilization: 0.0,
        application_utilization: 0.0,
        named: &[],
        qps: 0.0,
        eps: 0.0,
    };
    Report::new(&raw, &[]).unwrap()
}

impl Loop {
    /// Five seconds pass in which this backend gets no calls, and says so.
    fn tick_without(&mut self, without: usize, source: ReportSource) {
        let skew = std::mem::replace(&mut self.skew[without], 0.0);
        self.tick_if(|index| index != without);
        self.skew[without] = skew;
        let at = self.now();
        let report = idle(source);
        self.weigher
            .report(addr(without), &report, at, &self.settings);
    }

    fn observation(&self, index: usize) -> Observation {
        let mut each = self.weigher.observations(&self.settings, self.now());
        each.find(|one| one.addr == addr(index)).unwrap()
    }

    fn level(&self) -> f64 {
        let used = self.utilization();
        used.iter().copied().fold(f64::MAX, f64::min) / used.iter().copied().fold(0.0, f64::max)
    }
}

#[test]
fn a_backend_without_calls_in_a_busy_fleet_keeps_its_weight() {
    for source in ReportSource::ALL {
        let (capacity, skew) = machines(10);
        let mut run = Loop::new(feedback(), &capacity, &skew);
        run.ticks(40);
        let before = run.factors[3];
        for _ in 0..120 {
            run.tick_without(3, source);
            let seen = run.observation(3);
            assert_eq!(seen.freshness, Freshness::Known, "{source:?}");
            assert_eq!(seen.ejected, None, "{source:?}");
            assert!(seen.trusted, "{source:?}");
            let share = run.factors[3] / before;
            assert!((0.8..1.25).contains(&share), "{source:?} {share}");
        }
        // Its calls come back, and it takes them as it did.
        run.ticks(1);
        assert!(
            run.max_over_avg() < 1.25,
            "{source:?} {}",
            run.max_over_avg()
        );
        run.ticks(40);
        assert!(
            run.max_over_avg() < 1.06,
            "{source:?} {}",
            run.max_over_avg()
        );
        assert!(run.level() > 0.9, "{source:?} {}", run.level());
    }
}

#[test]
fn a_backend_that_joins_and_gets_no_calls_is_given_a_share_of_the_usual_size() {
    for source in [ReportSource::Orca, ReportSource::Registration] {
        let (capacity, skew) = machines(10);
        let mut run = Loop::new(feedback(), &capacity, &skew);
        run.ticks(40);
        run.candidates.push(candidate(10));
        run.capacity.push(400.0);
        run.skew.push(1.0);
        run.lies.push(1.0);
        run.failing.push(0.0);
        run.weigher.track((0..11).map(|index| (addr(index), None)));
        run.step();
        for _ in 0..40 {
            run.tick_without(10, source);
            assert!(!run.weigher.is_ejected(addr(10)));
        }
        assert!(
            (0.8..1.2).contains(&run.factors[10]),
            "{source:?} {}",
            run.factors[10]
        );
        run.ticks(60);
        assert!(
            run.max_over_avg() < 1.06,
            "{source:?} {}",
            run.max_over_avg()
        );
    }
}

#[test]
fn a_fleet_at_night_keeps_its_weights_to_the_morning() {
    let (capacity, skew) = machines(20);
    let mut run = Loop::new(feedback(), &capacity, &skew);
    run.ticks(40);
    let (before, day) = (run.factors.clone(), run.calls);
    let opened = run.weigher.gate().opened;
    run.calls = 0.0;
    for _ in 0..3 * 720 {
        run.ticks(1);
    }
    assert_eq!(run.factors, before);
    assert_eq!(run.weigher.gate().opened, opened, "nobody is told anything");
    for index in 0..20 {
        let seen = run.observation(index);
        assert_eq!(seen.freshness, Freshness::Known);
        assert_eq!((seen.ejected, seen.trusted), (None, true));
    }
    run.calls = day;
    run.ticks(1);
    assert!(run.max_over_avg() < 1.06, "{}", run.max_over_avg());
    for _ in 0..40 {
        run.ticks(1);
        assert!(run.max_over_avg() < 1.12, "{}", run.max_over_avg());
    }
}

#[test]
fn where_no_calls_are_counted_a_fleet_at_night_keeps_its_weights_too() {
    for source in [ReportSource::LoadReport, ReportSource::Prometheus] {
        let (capacity, _) = machines(10);
        let mut run = Loop::new(feedback(), &capacity, &[1.0; 10]);
        let tell = |run: &mut Loop, used: &[f64]| {
            run.seconds += 5.0;
            let at = run.now();
            for (index, used) in used.iter().enumerate() {
                let raw = RawReport {
                    source,
                    cpu_utilization: used.min(1.0),
                    application_utilization: 0.0,
                    named: &[],
                    qps: 0.0,
                    eps: 0.0,
                };
                let report = Report::new(&raw, &[]).unwrap();
                run.weigher.report(addr(index), &report, at, &run.settings);
            }
            run.step();
        };
        for _ in 0..120 {
            let used = run.utilization();
            tell(&mut run, &used);
        }
        assert!(
            run.max_over_avg() < 1.08,
            "{source:?} {}",
            run.max_over_avg()
        );
        // What is measured falls by and by; until it is low, weights may move.
        for _ in 0..24 {
            tell(&mut run, &[0.0; 10]);
        }
        let held = run.factors.clone();
        for _ in 0..720 {
            tell(&mut run, &[0.0; 10]);
        }
        assert_eq!(run.factors, held, "{source:?}");
        assert!(
            run.max_over_avg() < 1.10,
            "{source:?} {}",
            run.max_over_avg()
        );
        assert_eq!(run.observation(0).freshness, Freshness::Known);
    }
}

/// Another process is at the first `restarted` addresses: what was known of them is void.
fn restart(run: &mut Loop, restarted: usize) {
    let life = |index: usize| Some(if index < restarted { "new" } else { "old" });
    let lives = (0..run.capacity.len()).map(|index| (addr(index), life(index)));
    run.weigher.track(lives);
    run.step();
}

/// A fleet that learned by day, and whose calls are few now.
fn evening(count: usize) -> Loop {
    let (capacity, skew) = machines(count);
    let mut run = Loop::new(feedback(), &capacity, &skew);
    restart(&mut run, 0);
    run.ticks(40);
    run.calls *= 0.05;
    run.ticks(60);
    run
}

/// The largest weight over the smallest.
fn spread(run: &Loop) -> f64 {
    let most = run.factors.iter().copied().fold(0.0, f64::max);
    most / run.factors.iter().copied().fold(f64::MAX, f64::min)
}

#[test]
fn nothing_is_learned_of_backends_that_restart_in_an_idle_fleet() {
    for together in [true, false] {
        let mut run = evening(10);
        assert!(spread(&run) > 1.5, "{:?}", run.factors);
        // What an idle process uses for itself is most of what it reports.
        run.lies = (0..10).map(|index| 1.0 + f64::from(index % 4)).collect();
        for restarted in 1..=10 {
            restart(&mut run, if together { 10 } else { restarted });
            run.ticks(4);
        }
        run.ticks(120);
        // Nobody is known any more, so all get the same.
        assert!(spread(&run) < 1.15, "{together} {:?}", run.factors);
    }
}

#[test]
fn what_processes_burn_while_they_start_is_not_taken_for_their_calls() {
    let mut run = evening(10);
    restart(&mut run, 10);
    run.lies = (0..10)
        .map(|index| 15.0 + 5.0 * f64::from(index % 4))
        .collect();
    run.ticks(2);
    run.lies = vec![1.0; 10];
    run.ticks(120);
    assert!(spread(&run) < 1.15, "{:?}", run.factors);
}
