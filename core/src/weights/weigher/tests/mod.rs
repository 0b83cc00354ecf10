//! What the weights promise, whatever comes in.

mod idle;
mod properties;
mod returning;
mod service_load;

use super::*;
use crate::weights::{BadReport, Freshness, PolicyChoice, RawReport, ReportSource};

fn addr(index: usize) -> BackendAddr {
    format!("10.0.{}.{}:80", index / 250, index % 250 + 1)
        .parse()
        .unwrap()
}

fn settings(policy: PolicyChoice) -> WeightSettings {
    WeightSettings {
        policy,
        ..WeightSettings::default()
    }
}

fn feedback() -> WeightSettings {
    settings(PolicyChoice::FEEDBACK)
}

fn report(load: f64, qps: f64, eps: f64) -> Result<Report, BadReport> {
    let raw = RawReport {
        source: ReportSource::Orca,
        cpu_utilization: load,
        application_utilization: 0.0,
        named: &[],
        qps,
        eps,
    };
    Report::new(&raw, &[])
}

fn candidate(index: usize) -> Candidate {
    Candidate {
        addr: addr(index),
        operator: Weight::ONE,
        listed: true,
        serving: true,
    }
}

/// A service whose backends report what the published weights make of them.
#[derive(Debug)]
struct Loop {
    weigher: Weigher,
    settings: WeightSettings,
    candidates: Vec<Candidate>,
    capacity: Vec<f64>,
    skew: Vec<f64>,
    /// What a backend's utilisation is multiplied with before it tells it.
    lies: Vec<f64>,
    /// Which share of its calls a backend fails.
    failing: Vec<f64>,
    calls: f64,
    seconds: f64,
    factors: Vec<f64>,
    /// Moments are this much later than the seconds say.
    origin: f64,
}

impl Loop {
    fn new(settings: WeightSettings, capacity: &[f64], skew: &[f64]) -> Self {
        let count = capacity.len();
        let mut this = Self {
            weigher: Weigher::default(),
            settings,
            candidates: (0..count).map(candidate).collect(),
            capacity: capacity.to_vec(),
            skew: skew.to_vec(),
            lies: vec![1.0; count],
            failing: vec![0.0; count],
            calls: 0.6 * capacity.iter().sum::<f64>(),
            seconds: 0.0,
            factors: vec![1.0; count],
            origin: 0.0,
        };
        this.weigher
            .track((0..count).map(|index| (addr(index), None)));
        this.step();
        this
    }

    fn now(&self) -> Moment {
        Moment::new(Duration::from_secs_f64(self.origin + self.seconds))
    }

    fn weights(&self) -> Vec<f64> {
        let pairs = self.candidates.iter().zip(&self.factors);
        let weight = |(c, factor): (&Candidate, &f64)| {
            if c.listed {
                c.operator.value() * factor
            } else {
                0.0
            }
        };
        pairs.map(weight).collect()
    }

    fn rates(&self) -> Vec<f64> {
        let weights = self.weights();
        let pulls = weights.iter().zip(&self.skew).map(|(w, s)| w * s);
        let sum: f64 = pulls.clone().sum();
        pulls.map(|pull| self.calls * pull / sum).collect()
    }

    fn utilization(&self) -> Vec<f64> {
        let pairs = self.rates().into_iter().zip(&self.capacity);
        pairs.map(|(rate, capacity)| rate / capacity).collect()
    }

    fn max_over_avg(&self) -> f64 {
        let used = self.utilization();
        let most = used.iter().copied().fold(0.0, f64::max);
        most * used.len() as f64 / used.iter().sum::<f64>()
    }

    fn step(&mut self) {
        let now = self.now();
        let ejections = self.weigher.eject(|_| true, &self.settings, now);
        for candidate in &mut self.candidates {
            candidate.listed = !self.weigher.is_ejected(candidate.addr);
            candidate.serving = candidate.listed;
        }
        let _ = ejections;
        self.factors = self.weigher.weigh(&self.candidates, &self.settings, now);
        let weights = self.weights();
        let addrs = self.candidates.iter().map(|c| c.addr);
        let weights = addrs.zip(weights).filter(|(_, weight)| *weight > 0.0);
        self.weigher.published(weights.collect::<Vec<_>>(), now);
    }

    /// Five seconds pass; those for whom `reports` holds report.
    fn tick_if(&mut self, reports: impl Fn(usize) -> bool) {
        self.seconds += 5.0;
        let (rates, used) = (self.rates(), self.utilization());
        for index in (0..rates.len()).filter(|index| reports(*index)) {
            let (load, eps) = (
                used[index] * self.lies[index],
                rates[index] * self.failing[index],
            );
            if let Ok(report) = report(load.min(1.0), rates[index], eps) {
                let at = self.now();
                self.weigher
                    .report(addr(index), &report, at, &self.settings);
            }
        }
        self.step();
    }

    fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick_if(|_| true);
        }
    }
}

fn machines(count: usize) -> (Vec<f64>, Vec<f64>) {
    let capacity = (0..count).map(|i| 300.0 + 100.0 * ((i * 7) % 5) as f64);
    let skew = (0..count).map(|i| 0.8 + 0.1 * ((i * 3) % 5) as f64);
    (capacity.collect(), skew.collect())
}

#[test]
fn feedback_evens_out_machines_and_skew() {
    let (capacity, skew) = machines(20);
    let mut run = Loop::new(feedback(), &capacity, &skew);
    assert!(run.max_over_avg() > 1.3, "{}", run.max_over_avg());
    run.ticks(40);
    assert!(run.max_over_avg() < 1.06, "{}", run.max_over_avg());
}

#[test]
fn weighted_round_robin_evens_out_machines_but_not_skew() {
    let (capacity, skew) = machines(20);
    let wrr = settings(PolicyChoice::WEIGHTED_ROUND_ROBIN);
    let mut run = Loop::new(wrr.clone(), &capacity, &[1.0; 20]);
    run.ticks(40);
    assert!(run.max_over_avg() < 1.06, "{}", run.max_over_avg());
    let mut run = Loop::new(wrr, &capacity, &skew);
    run.ticks(40);
    assert!(run.max_over_avg() > 1.15, "{}", run.max_over_avg());
}

#[test]
fn static_weights_never_move_and_want_no_ticks() {
    let (capacity, skew) = machines(5);
    let mut run = Loop::new(settings(PolicyChoice::STATIC), &capacity, &skew);
    run.ticks(10);
    assert_eq!(run.factors, [1.0; 5]);
    assert_eq!(run.weigher.next(&run.settings), None);
}

#[test]
fn an_operators_half_is_exactly_half() {
    let (capacity, skew) = machines(10);
    let mut plain = Loop::new(feedback(), &capacity, &skew);
    plain.ticks(100);
    let mut halved = Loop::new(feedback(), &capacity, &skew);
    halved.ticks(20);
    let before = halved.weights()[3];
    halved.candidates[3].operator = Weight::new(0.5).unwrap();
    halved.step();
    assert_eq!(halved.weights()[3], before / 2.0, "at once");
    halved.ticks(80);
    // The policy does not take back what the operator gave.
    let (plain, halved) = (plain.utilization()[3], halved.utilization());
    let others: f64 = halved.iter().sum::<f64>() - halved[3];
    let ratio = halved[3] / (others / 9.0);
    assert!((ratio - 0.5).abs() < 0.04, "{ratio}, of {plain}");
}

#[test]
fn noise_inside_the_band_publishes_nothing() {
    let mut run = Loop::new(feedback(), &[400.0; 12], &[1.0; 12]);
    run.ticks(60);
    let opened = run.weigher.gate().opened;
    for tick in 0..100u32 {
        for index in 0..12 {
            // ±3 %, another each time.
            let noise = f64::from((tick * 31 + index as u32 * 17) % 13) / 6.0 - 1.0;
            run.lies[index] = 1.0 + 0.03 * noise;
        }
        run.ticks(1);
    }
    assert_eq!(run.weigher.gate().opened, opened);
}

#[test]
fn the_silent_keep_their_weights_and_the_others_what_they_had() {
    let (capacity, skew) = machines(10);
    let mut run = Loop::new(feedback(), &capacity, &skew);
    run.ticks(40);
    let before = run.factors.clone();
    for _ in 0..100 {
        run.tick_if(|index| index >= 6);
    }
    assert_eq!(run.factors[..6], before[..6]);
    let sum = |factors: &[f64]| factors[6..].iter().sum::<f64>();
    assert!((sum(&run.factors) / sum(&before) - 1.0).abs() < 0.02);
    let stale = run.weigher.observations(&run.settings, run.now());
    let unknown = stale.filter(|o| o.freshness == Freshness::Unknown);
    assert_eq!(unknown.count(), 6);
}

#[test]
fn a_liar_is_not_believed_for_long() {
    let (capacity, skew) = machines(20);
    let mut run = Loop::new(feedback(), &capacity, &skew);
    run.ticks(80);
    let before = run.weights()[7];
    run.lies[7] = 0.01;
    let mut peak = 0f64;
    for _ in 0..12 {
        run.ticks(1);
        peak = peak.max(run.weights()[7]);
    }
    assert!(peak <= 3.0 * before, "{peak} of {before}");
    run.ticks(1);
    assert!(
        run.weights()[7] <= before.max(1.0) * 1.1,
        "{}",
        run.weights()[7]
    );
}

#[test]
fn nothing_is_learned_from_an_idle_fleet() {
    let (capacity, skew) = machines(10);
    let mut run = Loop::new(feedback(), &capacity, &skew);
    run.ticks(40);
    let before = run.factors.clone();
    run.calls *= 0.05;
    // Until the smoothed utilisation shows it, weights may move as always.
    run.ticks(4);
    let held = run.factors.clone();
    run.lies = (0..10).map(|i| 0.5 + 0.1 * f64::from(i)).collect();
    run.ticks(50);
    assert_eq!(run.factors, held);
    assert!(
        held.iter()
            .zip(&before)
            .all(|(a, b)| (a / b - 1.0).abs() < 0.2)
    );
}

#[test]
fn a_newcomer_starts_with_a_tenth_and_gets_no_more_than_its_share_on_probation() {
    let mut run = Loop::new(feedback(), &[400.0; 10], &[1.0; 10]);
    run.ticks(40);
    run.candidates.push(candidate(10));
    run.capacity.push(1200.0);
    run.skew.push(1.0);
    run.lies.push(1.0);
    run.failing.push(0.0);
    run.weigher.track((0..11).map(|index| (addr(index), None)));
    run.step();
    assert!((run.factors[10] - 0.1).abs() < 0.02, "{}", run.factors[10]);
    for _ in 0..17 {
        run.ticks(1);
        assert!(run.factors[10] <= 1.0, "{}", run.factors[10]);
    }
    run.ticks(40);
    assert!(run.factors[10] > 2.0, "{}", run.factors[10]);
}

#[test]
fn who_fails_fast_is_ejected_and_comes_back_slowly() {
    let (capacity, skew) = machines(20);
    let mut run = Loop::new(feedback(), &capacity, &skew);
    run.ticks(40);
    let before = run.factors[4];
    run.failing[4] = 1.0;
    run.lies[4] = 0.02;
    run.ticks(2);
    assert!(run.weigher.is_ejected(addr(4)));
    assert_eq!(run.weights()[4], 0.0);
    run.failing[4] = 0.0;
    run.lies[4] = 1.0;
    run.ticks(7);
    assert!(!run.weigher.is_ejected(addr(4)));
    assert!(
        run.factors[4] <= 0.4 * before,
        "{} of {before}",
        run.factors[4]
    );
    run.ticks(12);
    assert!(
        run.factors[4] <= before * 1.01,
        "{} of {before}",
        run.factors[4]
    );
}

#[test]
fn a_shadow_learns_and_takes_over_without_a_jump() {
    let (capacity, skew) = machines(20);
    let shadowed = WeightSettings {
        shadow: Some(PolicyChoice::FEEDBACK),
        ..settings(PolicyChoice::STATIC)
    };
    let mut run = Loop::new(shadowed, &capacity, &skew);
    run.ticks(100);
    assert_eq!(run.factors, [1.0; 20]);
    let shadows = run.weigher.observations(&run.settings, run.now());
    assert!(
        shadows
            .map(|o| o.shadow.unwrap())
            .any(|shadow| shadow > 1.2)
    );
    run.settings = feedback();
    run.ticks(1);
    assert!(run.max_over_avg() < 1.2, "{}", run.max_over_avg());
    run.ticks(10);
    assert!(run.max_over_avg() < 1.06, "{}", run.max_over_avg());
}

#[test]
fn a_blend_is_part_of_the_way() {
    let (capacity, skew) = machines(10);
    let blended = |blend| {
        let blended = WeightSettings {
            blend,
            ..feedback()
        };
        let mut run = Loop::new(blended, &capacity, &skew);
        run.ticks(40);
        run.max_over_avg()
    };
    let (none, half, all) = (blended(1e-9), blended(0.5), blended(1.0));
    assert!(none > half && half > all, "{none} {half} {all}");
}

#[test]
fn another_life_is_another_backend() {
    let mut run = Loop::new(feedback(), &[400.0, 400.0, 800.0], &[1.0; 3]);
    run.weigher
        .track((0..3).map(|index| (addr(index), Some("a"))));
    run.ticks(40);
    assert!(run.factors[2] > 1.3);
    run.weigher
        .track((0..3).map(|index| (addr(index), (index == 2).then_some("b"))));
    let observed: Vec<_> = run.weigher.observations(&run.settings, run.now()).collect();
    assert_eq!(observed[2].freshness, Freshness::Unknown);
    assert_eq!(observed[1].freshness, Freshness::Known);
    run.step();
    assert!(run.factors[2] <= 0.2, "{}", run.factors[2]);
}

#[test]
fn a_balancer_that_begins_without_memory_waits_until_most_backends_are_known() {
    let mut weigher = Weigher::default();
    let settings = feedback();
    let at = |seconds| Moment::new(Duration::from_secs(seconds));
    let candidates: Vec<Candidate> = (0..10).map(candidate).collect();
    weigher.track((0..10).map(|index| (addr(index), None)));
    let mut factors = weigher.weigh(&candidates, &settings, at(0));
    assert_eq!(factors, [1.0; 10]);
    // Half of them report, and have very different machines.
    for second in (5..=25).step_by(5) {
        assert_eq!(factors, [1.0; 10], "at {second}");
        for index in 0..5 {
            let load = 0.3 + 0.1 * index as f64;
            let report = report(load, 100.0, 0.0).unwrap();
            weigher.report(addr(index), &report, at(second), &settings);
        }
        factors = weigher.weigh(&candidates, &settings, at(second));
    }
    // Nobody waits for the others for ever.
    assert!(factors[0] > factors[4], "{factors:?}");
}
