//! Modelled backends: machines that work off requests, share their host with
//! others, and report.

use std::collections::VecDeque;
use std::time::Duration;

use crate::exact::{exp, sqrt};
use crate::random::Random;
use crate::scenario::Scenario;
use lookaside_core::model::BackendAddr;
use lookaside_core::weights::{RawReport, Report, ReportSource};

/// The load at which a mean backend gets the scenario's rate.
const RATE_AT: f64 = 0.55;

/// What others on a host take of it: mean, deviation, and over how many seconds
/// it changes.
const ANTAGONIST: (f64, f64, f64) = (0.1, 0.03, 20.0);

/// Work for more than so many seconds is shed, as errors.
const BACKLOG: f64 = 1.0;

/// What a request costs that fails at once.
const FAILURE_COST: f64 = 0.02;

/// Utilisation is judged smoothed over so many seconds.
const SMOOTHED: f64 = 10.0;

/// A process that has just started has half its capacity, and all of it after so
/// many seconds.
const COLD: (f64, f64) = (0.5, 60.0);

/// A backend.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) addr: BackendAddr,
    /// Requests of mean cost that it can work off in a second.
    pub(super) capacity: f64,
    /// How many times its share it gets.
    pub(super) skew: f64,
    /// Which life it is in.
    pub(super) life: u32,
    /// Whether its process runs.
    pub(super) up: bool,
    /// Whether it has left for good.
    pub(super) gone: bool,
    /// Share of its capacity that it lost.
    pub(super) lost: f64,
    /// If it fails every request: what share of the failures it reports.
    pub(super) sink: Option<f64>,
    /// What its utilisation is multiplied with before it is reported.
    pub(super) lie: f64,
    pub(super) silent: bool,
    /// Smoothed share of its capacity that is asked of it; above 1 it is more
    /// than it can do. (What it reports is what it does.)
    pub(super) utilization: f64,
    /// Smoothed requests a second.
    pub(super) rate: f64,
    started: f64,
    antagonist: f64,
    backlog: f64,
    since_report: Sums,
    /// Utilisation step by step, as far back as it is averaged.
    used: VecDeque<f64>,
    next_report: f64,
    random: Random,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    seconds: f64,
    requests: f64,
    failures: f64,
    step: f64,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Worked {
    pub(super) requests: f64,
    pub(super) failures: f64,
}

impl Host {
    pub(super) fn new(index: usize, scenario: &Scenario) -> Self {
        let mut random = Random::new(scenario.seed, &format!("host {index}"));
        let sigma = scenario.capacity_sigma;
        // Lognormals with mean 1.
        let capacity = exp(sigma * random.normal() - sigma * sigma / 2.0);
        let sigma = scenario.subset_skew_sigma;
        let skew = exp(sigma * random.normal() - sigma * sigma / 2.0);
        let (mean, deviation, _) = ANTAGONIST;
        let next_report = random.unit() * scenario.report.interval.as_secs_f64();
        Self {
            addr: address(index),
            capacity: scenario.rate / RATE_AT * capacity,
            skew,
            life: 0,
            up: true,
            gone: false,
            lost: 0.0,
            sink: None,
            lie: 1.0,
            silent: false,
            utilization: 0.0,
            rate: 0.0,
            started: f64::NEG_INFINITY,
            antagonist: mean + deviation * random.normal(),
            backlog: 0.0,
            since_report: Sums::default(),
            used: VecDeque::new(),
            next_report,
            random,
        }
    }

    /// Starts its process again, at `now`; what was known of it is void.
    pub(super) fn start(&mut self, now: f64) {
        self.up = true;
        self.life += 1;
        self.started = now;
        self.backlog = 0.0;
        self.since_report = Sums::default();
        self.used.clear();
    }

    /// Its first report is an interval away.
    pub(super) fn join(&mut self, now: f64, interval: f64) {
        self.next_report = now + self.random.unit() * interval;
        self.started = now - COLD.1;
    }

    /// Works for `step` seconds on so many new requests.
    pub(super) fn work(&mut self, requests: f64, now: f64, step: f64, cv: f64) -> Worked {
        let (mean, deviation, tau) = ANTAGONIST;
        let keep = exp(-step / tau);
        let noise = deviation * sqrt(1.0 - keep * keep) * self.random.normal();
        self.antagonist = mean + keep * (self.antagonist - mean) + noise;
        let antagonist = self.antagonist.clamp(0.0, 0.9);
        if !self.up {
            self.utilization = 0.0;
            self.rate = 0.0;
            return Worked {
                requests,
                failures: requests,
            };
        }
        let (cold, warm) = COLD;
        let warmth = (cold + (1.0 - cold) * (now - self.started) / warm).min(1.0);
        let capacity = self.capacity * (1.0 - self.lost) * warmth;
        let mut failures = 0.0;
        let work = match self.sink {
            Some(_) => {
                failures = requests;
                requests * FAILURE_COST
            }
            None => self.random.gamma_sum(requests, cv),
        };
        self.backlog += work;
        let done = self.backlog.min(capacity * (1.0 - antagonist) * step);
        self.backlog -= done;
        let shed = (self.backlog - BACKLOG * capacity).max(0.0);
        self.backlog -= shed;
        failures += shed.min(requests);

        let used = (done / (capacity * step) + antagonist).min(1.0);
        let asked = work / (capacity * step) + antagonist;
        let pull = 1.0 - exp(-step / SMOOTHED);
        self.utilization += pull * (asked - self.utilization);
        self.rate += pull * (requests / step - self.rate);
        let sums = &mut self.since_report;
        sums.seconds += step;
        sums.step = step;
        self.used.push_back(used);
        sums.requests += requests;
        sums.failures += failures;
        Worked { requests, failures }
    }

    /// Its report, if it is time for one and it gets through.
    pub(super) fn report(&mut self, now: f64, scenario: &Scenario) -> Option<Report> {
        if now < self.next_report {
            return None;
        }
        let reporting = &scenario.report;
        let jitter = reporting.jitter * self.random.between(-1.0, 1.0);
        self.next_report = now + reporting.interval.as_secs_f64() * (1.0 + jitter);
        let lost = self.random.unit() < reporting.loss;
        let sums = std::mem::take(&mut self.since_report);
        if lost || !self.up || self.silent || sums.seconds <= 0.0 {
            return None;
        }
        let window = reporting.window.as_secs_f64().max(sums.seconds);
        let steps = (window / sums.step).round() as usize;
        let old = self.used.len().saturating_sub(steps);
        self.used.drain(..old);
        let used = self.used.iter().sum::<f64>() / self.used.len() as f64;
        let counted = if reporting.qps { 1.0 } else { 0.0 };
        let told = self.sink.unwrap_or(1.0) * counted;
        let raw = RawReport {
            source: ReportSource::Registration,
            cpu_utilization: used * self.lie,
            application_utilization: 0.0,
            named: &[],
            qps: sums.requests / sums.seconds * counted,
            eps: sums.failures / sums.seconds * told,
        };
        // As in the balancer: what is no report is ignored.
        Report::new(&raw, &[]).ok()
    }

    /// Whether it counts for the balance of load.
    pub(super) fn counts(&self) -> bool {
        self.up && !self.gone
    }
}

/// 10.0.0.1, 10.0.0.2 and so on.
fn address(index: usize) -> BackendAddr {
    let bits = 0x0a00_0000 + index as u32 + 1;
    let ip = std::net::Ipv4Addr::from_bits(bits);
    let addr = std::net::SocketAddr::from((ip, 50051));
    #[allow(clippy::unwrap_used, reason = "neither ip nor port is 0")]
    BackendAddr::new(addr).unwrap()
}

/// When something sent at `now` arrives.
pub(super) fn arrival(now: f64, delay: Duration) -> f64 {
    now + delay.as_secs_f64()
}
