//! How busy a service is as a whole.

use super::*;

/// Backends that report once every five seconds for half a minute: utilisation,
/// calls a second, published weight.
fn service(backends: &[(f64, f64, f64)]) -> (Weigher, Moment) {
    let mut weigher = Weigher::default();
    let count = backends.len();
    let settings = settings(PolicyChoice::STATIC);
    let candidates: Vec<Candidate> = (0..count).map(candidate).collect();
    weigher.track((0..count).map(|index| (addr(index), None)));
    weigher.weigh(&candidates, &settings, Moment::new(Duration::ZERO));
    let weights = backends.iter().enumerate();
    let weights = weights.map(|(index, backend)| (addr(index), backend.2));
    weigher.published(weights.collect::<Vec<_>>(), Moment::new(Duration::ZERO));
    let mut now = Moment::new(Duration::ZERO);
    for second in (5..=30).step_by(5) {
        now = Moment::new(Duration::from_secs(second));
        for (index, (load, qps, _)) in backends.iter().enumerate() {
            tell(&mut weigher, index, (*load, *qps), now);
        }
    }
    (weigher, now)
}

/// A backend reports, if it has a load at all.
fn tell(weigher: &mut Weigher, index: usize, (load, qps): (f64, f64), now: Moment) {
    if load.is_finite() {
        let report = report(load, qps, 0.0).unwrap();
        let settings = settings(PolicyChoice::STATIC);
        weigher.report(addr(index), &report, now, &settings);
    }
}

fn load(backends: &[(f64, f64, f64)]) -> ServiceLoad {
    let (weigher, now) = service(backends);
    weigher.service_load(&settings(PolicyChoice::STATIC), now)
}

const SILENT: f64 = f64::NAN;

#[track_caller]
fn close(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 1e-9, "{found}, not {wanted}");
}

#[test]
fn where_nobody_reports_nothing_is_known() {
    let load = load(&[(SILENT, 0.0, 1.0), (SILENT, 0.0, 1.0)]);
    assert_eq!(load, ServiceLoad::default());
    let nobody = Weigher::default();
    let load = nobody.service_load(&feedback(), Moment::new(Duration::ZERO));
    assert_eq!(load, ServiceLoad::default());
}

#[test]
fn it_is_all_calls_over_all_capacity() {
    // 100, 100 and 250 calls a second of capacity, and 90 + 80 + 200 calls.
    let load = load(&[(0.9, 90.0, 1.0), (0.8, 80.0, 1.0), (0.8, 200.0, 2.5)]);
    // But half of the calls meet no more than 0.8.
    close(load.utilization.unwrap(), 0.8);
    close(load.covered, 1.0);
    close(load.time_constant, 10.0);
    close(load.window, 5.0);
    let level = self::load(&[(0.9, 90.0, 1.0), (0.9, 90.0, 1.0), (0.6, 60.0, 1.0)]);
    close(level.utilization.unwrap(), 240.0 / 300.0);
}

#[test]
fn calls_that_are_not_counted_are_as_the_weights() {
    let load = load(&[(0.9, 0.0, 1.0), (0.9, 0.0, 1.0), (0.6, 0.0, 1.0)]);
    let capacity = 1.0 / 0.9 + 1.0 / 0.9 + 1.0 / 0.6;
    close(load.utilization.unwrap(), 3.0 / capacity);
    close(load.covered, 1.0);
}

#[test]
fn a_few_that_are_full_do_not_make_a_service_full() {
    let mut backends = vec![(0.3, 30.0, 1.0); 9];
    backends.push((1.0, 30.0, 1.0));
    close(load(&backends).utilization.unwrap(), 0.3);
}

#[test]
fn one_that_claims_to_be_idle_does_not_hide_that_the_others_are_full() {
    // It says that it could do a thousand times what they can.
    let mut backends = vec![(1.0, 100.0, 1.0); 9];
    backends.push((0.001, 100.0, 1.0));
    let load = load(&backends).utilization.unwrap();
    close(load, 1000.0 / (9.0 * 100.0 + 6.0 * 100.0));
}

#[test]
fn the_silent_are_not_covered_and_the_others_count_for_themselves() {
    let mut backends = vec![(0.8, 80.0, 1.0); 4];
    backends.push((SILENT, 0.0, 4.0));
    let load = load(&backends);
    close(load.utilization.unwrap(), 0.8);
    close(load.covered, 0.5);

    // Who falls silent is no longer covered either.
    let (mut weigher, now) = service(&[(0.8, 80.0, 1.0), (0.8, 80.0, 3.0)]);
    let mut later = now;
    for _ in 0..4 {
        later = later.plus(Duration::from_secs(5));
        tell(&mut weigher, 0, (0.8, 80.0), later);
    }
    let load = weigher.service_load(&settings(PolicyChoice::STATIC), later);
    close(load.covered, 0.25);
}

#[test]
fn those_that_are_idle_are_known_and_a_service_of_them_is_idle() {
    let (mut weigher, now) = service(&[(0.9, 90.0, 1.0), (0.9, 90.0, 1.0)]);
    let mut later = now;
    for _ in 0..5 {
        later = later.plus(Duration::from_secs(5));
        for index in 0..2 {
            tell(&mut weigher, index, (0.0, 0.0), later);
        }
    }
    let load = weigher.service_load(&settings(PolicyChoice::STATIC), later);
    assert_eq!(load.utilization, Some(0.0));
    close(load.covered, 1.0);
}

#[test]
fn who_is_not_believed_does_not_count() {
    let (capacity, skew) = machines(10);
    let mut run = Loop::new(feedback(), &capacity, &skew);
    run.ticks(80);
    let honest = run.weigher.service_load(&run.settings, run.now());
    close(honest.covered, 1.0);
    run.lies[4] = 0.01;
    run.ticks(12);
    let load = run.weigher.service_load(&run.settings, run.now());
    assert!(load.covered < 0.95, "{load:?}");
    let (before, after) = (honest.utilization.unwrap(), load.utilization.unwrap());
    assert!((after / before - 1.0).abs() < 0.1, "{before} {after}");
}
