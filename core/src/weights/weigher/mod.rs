//! Everything between reports and published weights, for one service.
//!
//! ```text
//! report ─► signals ─► policy ─► blend × slow start ─► gate ─► × operator's ─► published
//!              ▲          ▲                                                       │
//!           ejection      └── what a backend's reports should show of it ◄────────┘
//! ```
//!
//! The gate is on the factors, not on what they come to with the operator's
//! weights: what the operator changes takes effect at once and exactly.

mod hold;
mod limit;
mod record;
mod saved;
mod service_load;

#[cfg(test)]
mod tests;

pub use record::Observation;
pub use saved::SavedWeights;
pub use service_load::ServiceLoad;

use std::collections::BTreeMap;
use std::time::Duration;

use self::hold::Hold;
use self::record::Record;
use super::ejection::{EjectionCandidate, Ejections, Ejector};
use super::gate;
use super::moment::Moment;
use super::policy::{Backends, Observed, WeightPolicy};
use super::report::Report;
use super::settings::WeightSettings;
use super::signals::{Applied, Freshness};
use super::statistics::mean;
use crate::model::{BackendAddr, Weight};

/// Time between two steps of a policy.
pub const TICK: Duration = Duration::from_secs(5);

/// A backend to weigh. Those that are drained are not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Where it is.
    pub addr: BackendAddr,
    /// The operator's weight, above 0.
    pub operator: Weight,
    /// Whether it is in the lists.
    pub listed: bool,
    /// Whether it is there for its own sake: listed, and not only because too
    /// few others are healthy.
    pub serving: bool,
}

/// How often the gate was asked, and how often it opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GateCounts {
    /// Steps of the policy.
    pub ticks: u64,
    /// Steps after which clients are told new weights.
    pub opened: u64,
}

/// Weighs the backends of one service.
#[derive(Debug)]
pub struct Weigher {
    policy: Box<dyn WeightPolicy>,
    shadow: Option<Box<dyn WeightPolicy>>,
    records: BTreeMap<BackendAddr, Record>,
    ejector: Ejector,
    ticked: Option<Moment>,
    /// Whether clients were sent anything yet.
    began: bool,
    /// Whether the weights count whatever the gate says, for they are computed
    /// in another way than those that clients have.
    reopen: bool,
    hold: Hold,
    gate: GateCounts,
}

impl Default for Weigher {
    fn default() -> Self {
        Self {
            policy: WeightSettings::default().policy.make(),
            shadow: None,
            records: BTreeMap::new(),
            ejector: Ejector::default(),
            ticked: None,
            began: false,
            reopen: false,
            hold: Hold::default(),
            gate: GateCounts::default(),
        }
    }
}

impl Weigher {
    /// These are the service's backends, each with the life it is in (`None`:
    /// nobody knows). What is known of others, or of earlier lives, is
    /// forgotten.
    pub fn track<'a>(&mut self, members: impl IntoIterator<Item = (BackendAddr, Option<&'a str>)>) {
        let mut left = std::mem::take(&mut self.records);
        for (addr, life) in members {
            let record = left.remove(&addr);
            let known = record.is_some();
            let mut record = record.unwrap_or_default();
            if record.is_another_life(life) {
                record = record.reborn();
                self.forget(addr);
            } else if !known {
                self.forget(addr);
            }
            record.life = life.map(str::to_owned).or(record.life);
            self.records.insert(addr, record);
        }
        for gone in left.into_keys() {
            self.forget(gone);
        }
    }

    /// Takes a backend's report that came at `at`; `None` if it is none of the
    /// service's.
    pub fn report(
        &mut self,
        backend: BackendAddr,
        report: &Report,
        at: Moment,
        settings: &WeightSettings,
    ) -> Option<Applied> {
        let record = self.records.get_mut(&backend)?;
        let ejected = record.ejection.is_ejected();
        Some(record.signals.apply(report, at, ejected, &settings.reports))
    }

    /// Takes out backends that fail, and puts back those that were out long
    /// enough. `healthy` are those that would get calls.
    pub fn eject(
        &mut self,
        healthy: impl Fn(BackendAddr) -> bool,
        settings: &WeightSettings,
        now: Moment,
    ) -> Ejections {
        if !settings.ejects() {
            for record in self.records.values_mut() {
                record.ejection = Default::default();
            }
            return Ejections::default();
        }
        let mut judged: Vec<EjectionCandidate<'_>> = self
            .records
            .iter_mut()
            .map(|(addr, record)| record.judged(healthy(*addr)))
            .collect();
        self.ejector.judge(&mut judged, now)
    }

    /// Whether a backend is out because it fails.
    #[must_use]
    pub fn is_ejected(&self, backend: BackendAddr) -> bool {
        let record = self.records.get(&backend);
        record.is_some_and(|record| record.ejection.is_ejected())
    }

    /// The factors on the operator's weights of `candidates`, which are in the
    /// order of their addresses: above 0 and finite. They move at most every
    /// [`TICK`].
    pub fn weigh(
        &mut self,
        candidates: &[Candidate],
        settings: &WeightSettings,
        now: Moment,
    ) -> Vec<f64> {
        self.configure(settings);
        self.note_who_serves(candidates, settings.reports.interval, now);
        if self.is_idle(settings) {
            self.ticked = None;
            self.reopen = true;
            let factor = |record: &mut Record| record.target = Some(1.0);
            self.listed(candidates, factor);
            return vec![1.0; candidates.len()];
        }
        let due = self.ticked.is_none_or(|last| now.since(last) >= TICK);
        if due || (self.reopen && !self.hold.is_on()) {
            self.tick(candidates, settings, now);
        }
        let usual = self.usual_weight();
        self.listed(candidates, |record| {
            if record.target.is_none() {
                record.target = Some(record.wanted(usual, settings, now));
            }
        });
        let target = |candidate: &Candidate| {
            let record = self.records.get(&candidate.addr);
            record.and_then(|record| record.target).unwrap_or(1.0)
        };
        let mut factors: Vec<f64> = candidates.iter().map(target).collect();
        self.limit(candidates, &mut factors, settings, now);
        factors
    }

    /// These weights, operator's included, were sent to the clients at `now`;
    /// backends that are not among them are not listed.
    pub fn published(
        &mut self,
        weights: impl IntoIterator<Item = (BackendAddr, f64)>,
        now: Moment,
    ) {
        let weights: BTreeMap<BackendAddr, f64> = weights.into_iter().collect();
        for (addr, record) in &mut self.records {
            record.published.publish(weights.get(addr).copied(), now);
        }
        self.began = true;
    }

    /// When to weigh again though nothing changes; `None`: not before something
    /// does.
    #[must_use]
    pub fn next(&self, settings: &WeightSettings) -> Option<Moment> {
        let tick = self.ticked.map(|last| last.plus(TICK));
        if !settings.ejects() {
            return tick;
        }
        let back = self.records.values().filter_map(|r| r.ejection.until());
        back.chain(self.ejector.next()).chain(tick).min()
    }

    /// What is known of each backend, for metrics and status.
    pub fn observations(
        &self,
        settings: &WeightSettings,
        now: Moment,
    ) -> impl Iterator<Item = Observation> {
        let (asked, window) = (settings.reports.interval, settings.slow_start());
        let records = self.records.iter();
        records.map(move |(addr, record)| Observation {
            trusted: self.policy.trusts(*addr, now),
            ..record.observation(*addr, now, asked, window)
        })
    }

    /// What the gate did.
    #[must_use]
    pub fn gate(&self) -> GateCounts {
        self.gate
    }

    /// Whether it knows something that a restart should not lose.
    #[must_use]
    pub fn learns(&self, settings: &WeightSettings) -> bool {
        settings.ejects() || !self.is_idle(settings)
    }

    /// Whether all there is to it is the operator's weights.
    fn is_idle(&self, settings: &WeightSettings) -> bool {
        self.policy.is_constant() && self.shadow.is_none() && settings.slow_start().is_zero()
    }

    fn forget(&mut self, backend: BackendAddr) {
        self.policy.forget(backend);
        if let Some(shadow) = &mut self.shadow {
            shadow.forget(backend);
        }
    }

    /// Makes the policies those of the settings. The shadow becomes the policy
    /// with all it learned.
    fn configure(&mut self, settings: &WeightSettings) {
        if self.policy.name() != settings.policy.name() {
            let shadow = self.shadow.take();
            let ready = shadow.filter(|shadow| shadow.name() == settings.policy.name());
            self.policy = ready.unwrap_or_else(|| settings.policy.make());
            self.reopen = true;
        }
        let wanted = settings.shadow.map(|choice| choice.name());
        if self.shadow.as_ref().map(|shadow| shadow.name()) != wanted {
            self.shadow = settings.shadow.map(|choice| choice.make());
        }
    }

    /// Backends that come into a service that was running start slowly.
    fn note_who_serves(&mut self, candidates: &[Candidate], asked: Duration, now: Moment) {
        let mut candidates = candidates.iter().peekable();
        for (addr, record) in &mut self.records {
            while candidates.next_if(|next| next.addr < *addr).is_some() {}
            let candidate = candidates.next_if(|next| next.addr == *addr);
            let serving = candidate.is_some_and(|candidate| candidate.serving);
            if serving && !record.serving && self.began {
                let ejected = std::mem::take(&mut record.was_ejected);
                let freshness = record.signals.freshness(now, asked);
                let known = matches!(freshness, Freshness::Known | Freshness::Stale);
                record.slow_start.begin(now, ejected, known);
                record.target = None;
            }
            record.serving = serving;
            record.was_ejected |= record.ejection.is_ejected();
            if !candidate.is_some_and(|candidate| candidate.listed) {
                record.target = None;
            }
        }
    }

    fn tick(&mut self, candidates: &[Candidate], settings: &WeightSettings, now: Moment) {
        for record in self.records.values_mut() {
            let (tau, window) = (record.signals.time_constant(), record.signals.window());
            record.published.advance(now, tau, window);
        }
        let (asked, window) = (settings.reports.interval, settings.slow_start());
        let observed = candidates.iter().filter_map(|candidate| {
            let record = self.records.get(&candidate.addr)?;
            Some(record.observed(candidate, now, asked, window))
        });
        let each: Vec<Observed<'_>> = observed.collect();
        let backends = Backends { now, each: &each };
        let weights = sound(self.policy.weigh(&backends), each.len());
        let shadow = self.shadow.as_mut().map(|shadow| shadow.weigh(&backends));
        let shadow = shadow.map(|weights| sound(weights, each.len()));
        let addrs: Vec<BackendAddr> = each.iter().map(|backend| backend.addr).collect();
        for (index, addr) in addrs.iter().enumerate() {
            if let Some(record) = self.records.get_mut(addr) {
                record.weight = weights.get(index).copied();
                record.shadow = shadow.as_ref().and_then(|s| s.get(index).copied());
            }
        }
        self.pass_gate(candidates, settings, now);
        self.ticked = Some(now);
    }

    fn pass_gate(&mut self, candidates: &[Candidate], settings: &WeightSettings, now: Moment) {
        let usual = self.usual_weight();
        let listed = candidates.iter().filter(|candidate| candidate.listed);
        self.gate.ticks += 1;
        let asked = settings.reports.interval;
        let is_known = |candidate: &&Candidate| {
            let record = self.records.get(&candidate.addr);
            record.is_some_and(|r| r.signals.freshness(now, asked) == Freshness::Known)
        };
        let known = listed.clone().filter(is_known).count();
        let all = listed.clone().count();
        // What is not learned from reports need not wait for them.
        let learns = !self.policy.is_constant();
        if learns && self.hold.holds((known, all), asked, now) {
            return;
        }
        let pairs = listed.filter_map(|candidate| {
            let record = self.records.get(&candidate.addr)?;
            Some((record.target?, record.wanted(usual, settings, now)))
        });
        let reopen = std::mem::take(&mut self.reopen);
        if reopen || gate::opens(pairs) {
            self.gate.opened += 1;
            self.listed(candidates, |record| {
                record.target = Some(record.wanted(usual, settings, now));
            });
        }
    }

    fn listed(&mut self, candidates: &[Candidate], mut act: impl FnMut(&mut Record)) {
        for candidate in candidates.iter().filter(|candidate| candidate.listed) {
            if let Some(record) = self.records.get_mut(&candidate.addr) {
                act(record);
            }
        }
    }

    /// What a backend weighs that no policy has seen yet.
    fn usual_weight(&self) -> f64 {
        let weights = self.records.values().filter_map(|record| record.weight);
        mean(&weights.collect::<Vec<_>>()).unwrap_or(1.0)
    }
}

/// Weights from a policy, whatever it came up with.
fn sound(mut weights: Vec<f64>, count: usize) -> Vec<f64> {
    for weight in &mut weights {
        if !weight.is_finite() || *weight <= 0.0 {
            *weight = 1.0;
        }
    }
    weights.resize(count, 1.0);
    weights
}
