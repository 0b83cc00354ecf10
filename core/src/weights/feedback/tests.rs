//! Weights where no calls are counted: there is but utilisation to go by.

use super::*;
use crate::weights::published::PublishedWeight;
use crate::weights::report::{RawReport, Report, ReportSource};
use crate::weights::signals::{ReportSettings, Signals};

const INTERVAL: Duration = Duration::from_secs(5);

/// Backends that report what their weights make of them, and nothing of calls.
struct Service {
    policy: Feedback,
    signals: Vec<Signals>,
    published: Vec<PublishedWeight>,
    operator: Vec<f64>,
    capacity: Vec<f64>,
    weights: Vec<f64>,
    /// What one of weight 1 and capacity 1 would be used.
    load: f64,
    seconds: u64,
}

impl Service {
    fn new(capacity: &[f64]) -> Self {
        let count = capacity.len();
        let mut this = Self {
            policy: Feedback::default(),
            signals: vec![Signals::default(); count],
            published: vec![PublishedWeight::default(); count],
            operator: vec![1.0; count],
            capacity: capacity.to_vec(),
            weights: vec![1.0; count],
            load: 0.5,
            seconds: 0,
        };
        this.publish();
        this
    }

    fn now(&self) -> Moment {
        Moment::new(Duration::from_secs(self.seconds))
    }

    fn publish(&mut self) {
        let now = self.now();
        for (index, published) in self.published.iter_mut().enumerate() {
            published.publish(Some(self.weights[index] * self.operator[index]), now);
        }
    }

    fn used(&self) -> Vec<f64> {
        let each = self.weights.iter().zip(&self.operator).zip(&self.capacity);
        each.map(|((weight, operator), capacity)| self.load * weight * operator / capacity)
            .collect()
    }

    fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            let used = self.used();
            self.seconds += INTERVAL.as_secs();
            let now = self.now();
            for (signals, used) in self.signals.iter_mut().zip(used) {
                let raw = RawReport {
                    source: ReportSource::Orca,
                    cpu_utilization: used.min(1.0),
                    application_utilization: 0.0,
                    named: &[],
                    qps: 0.0,
                    eps: 0.0,
                };
                let report = Report::new(&raw, &[]).unwrap();
                signals.apply(&report, now, false, &ReportSettings::default());
            }
            for (published, signals) in self.published.iter_mut().zip(&self.signals) {
                published.advance(now, signals.time_constant(), signals.window());
            }
            let each: Vec<Observed<'_>> = (0..self.signals.len())
                .map(|index| Observed {
                    addr: format!("10.0.0.{}:80", index + 1).parse().unwrap(),
                    operator: self.operator[index],
                    signals: &self.signals[index],
                    freshness: self.signals[index].freshness(now, INTERVAL),
                    published: &self.published[index],
                    ejected: false,
                    warming: false,
                    probation: None,
                })
                .collect();
            let backends = Backends { now, each: &each };
            self.weights = self.policy.weigh(&backends);
            self.publish();
        }
    }

    /// Utilisation against the operator's weight: what should be equal.
    fn max_over_avg(&self) -> f64 {
        let used: Vec<f64> = self
            .used()
            .iter()
            .zip(&self.operator)
            .map(|(used, operator)| used / operator)
            .collect();
        used.iter().copied().fold(0.0, f64::max) * used.len() as f64 / used.iter().sum::<f64>()
    }
}

#[test]
fn without_counted_calls_utilization_is_levelled_all_the_same() {
    let mut service = Service::new(&[0.6, 0.8, 1.0, 1.2, 1.4]);
    assert!(service.max_over_avg() > 1.4, "{}", service.max_over_avg());
    service.ticks(40);
    assert!(service.max_over_avg() < 1.03, "{}", service.max_over_avg());
    let sum: f64 = service.weights.iter().sum();
    assert!((sum / 5.0 - 1.0).abs() < 0.05, "{sum}");
    // Two fifths of a machine go.
    service.capacity[4] *= 0.6;
    service.ticks(20);
    assert!(service.max_over_avg() < 1.05, "{}", service.max_over_avg());
}

#[test]
fn without_counted_calls_an_operators_half_stays_a_half() {
    let mut service = Service::new(&[1.0; 6]);
    service.ticks(20);
    service.operator[2] = 0.5;
    service.ticks(60);
    for (weight, used) in service.weights.iter().zip(service.used()) {
        assert!((weight - 1.0).abs() < 0.05, "{:?} {used}", service.weights);
    }
}

#[test]
fn without_counted_calls_no_weight_rises_by_more_than_half_or_leaves_its_bounds() {
    let mut service = Service::new(&[0.02, 1.0, 1.0, 50.0]);
    service.ticks(3);
    for _ in 0..100 {
        let before = service.weights.clone();
        service.ticks(1);
        for (weight, before) in service.weights.iter().zip(before) {
            assert!((BOUNDS.0..=BOUNDS.1).contains(weight), "{weight}");
            assert!(
                *weight <= RISE * before * (1.0 + 1e-9),
                "{before} to {weight}"
            );
        }
    }
    assert!(service.weights[0] < 0.1 && service.weights[3] > 2.0);
}

#[test]
fn without_counted_calls_nothing_is_learned_from_an_idle_fleet() {
    let mut service = Service::new(&[0.7, 0.9, 1.0, 1.1, 1.3]);
    service.ticks(40);
    service.load = 0.05;
    service.ticks(10);
    let held = service.weights.clone();
    service.capacity = vec![1.0, 3.0, 0.4, 1.0, 2.0];
    service.ticks(100);
    assert_eq!(service.weights, held);
}
