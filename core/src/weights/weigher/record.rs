//! Everything known of one backend.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Candidate;
use crate::model::BackendAddr;
use crate::weights::ejection;
use crate::weights::moment::{Moment, Rebase};
use crate::weights::policy::Observed;
use crate::weights::published::PublishedWeight;
use crate::weights::settings::WeightSettings;
use crate::weights::signals::{Freshness, Signals};
use crate::weights::slow_start::SlowStart;

/// A backend's record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Which life it is in, if anybody said.
    pub(super) life: Option<String>,
    pub(super) signals: Signals,
    pub(super) published: PublishedWeight,
    pub(super) ejection: ejection::Record,
    pub(super) slow_start: SlowStart,
    pub(super) serving: bool,
    pub(super) was_ejected: bool,
    /// The policy's factor.
    pub(super) weight: Option<f64>,
    /// The shadow policy's.
    pub(super) shadow: Option<f64>,
    /// What passed the gate, if it is listed.
    pub(super) target: Option<f64>,
}

/// A backend's weight by stage, and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Where it is.
    pub addr: BackendAddr,
    /// Smoothed utilisation, failures included; 0 if it never reported.
    pub utilization: f64,
    /// Smoothed calls a second; 0 if unknown.
    pub qps: f64,
    /// Time since its last report; `None` if there was none.
    pub report_age: Option<Duration>,
    /// How far its reports are to be trusted.
    pub freshness: Freshness,
    /// Whether the policy believes them.
    pub trusted: bool,
    /// The policy's factor; `None` if it has not weighed it.
    pub policy: Option<f64>,
    /// The shadow policy's factor.
    pub shadow: Option<f64>,
    /// Slow start's factor, 0.1 to 1.
    pub slow_start: f64,
    /// The factor that passed the gate; `None` if it is not listed.
    pub factor: Option<f64>,
    /// The weight that clients have, operator's included; `None` if it is not
    /// listed.
    pub published: Option<f64>,
    /// For how long it is still ejected; `None` if it is not.
    pub ejected: Option<Duration>,
}

impl Record {
    /// Whether `life` is another than the one it is known in.
    pub(super) fn is_another_life(&self, life: Option<&str>) -> bool {
        match (&self.life, life) {
            (Some(known), Some(life)) => known != life,
            _ => false,
        }
    }

    /// The record of another backend at the address: only what clients were told
    /// is still true.
    pub(super) fn reborn(self) -> Self {
        Self {
            published: self.published,
            ..Self::default()
        }
    }

    pub(super) fn judged(&mut self, healthy: bool) -> ejection::EjectionCandidate<'_> {
        ejection::EjectionCandidate {
            record: &mut self.ejection,
            signals: &mut self.signals,
            healthy,
        }
    }

    pub(super) fn observed(
        &self,
        candidate: &Candidate,
        now: Moment,
        asked: Duration,
        slow_start: Duration,
    ) -> Observed<'_> {
        Observed {
            addr: candidate.addr,
            operator: candidate.operator.value(),
            signals: &self.signals,
            freshness: self.signals.freshness(now, asked),
            published: &self.published,
            ejected: self.ejection.is_ejected(),
            warming: self.slow_start.is_warming(now, slow_start),
            probation: self.slow_start.probation(now, slow_start),
        }
    }

    /// Whether its newest report since its load began to be measured is not one of
    /// failure.
    fn does_well(&self) -> bool {
        let last = self.signals.last().filter(|_| self.signals.samples() > 0);
        last.is_some_and(|last| 2.0 * last.eps <= last.qps)
    }

    /// What slow start makes of its weight: above 0, at most 1.
    pub(super) fn slow(&self, settings: &WeightSettings, now: Moment) -> f64 {
        let window = settings.slow_start();
        self.slow_start.factor(now, window, self.does_well())
    }

    /// The factor it should be listed with; `usual` if the policy has not
    /// weighed it.
    pub(super) fn wanted(&self, usual: f64, settings: &WeightSettings, now: Moment) -> f64 {
        let weight = self.weight.unwrap_or(usual);
        let blended = 1.0 + settings.blend * (weight - 1.0);
        let wanted = blended * self.slow(settings, now);
        if wanted.is_finite() && wanted > 0.0 {
            wanted
        } else {
            1.0
        }
    }

    pub(super) fn observation(
        &self,
        addr: BackendAddr,
        now: Moment,
        asked: Duration,
        slow_start: Duration,
    ) -> Observation {
        let ejected = self.ejection.until();
        Observation {
            addr,
            utilization: self.signals.utilization(),
            qps: self.signals.qps(),
            report_age: self.signals.age(now),
            freshness: self.signals.freshness(now, asked),
            trusted: true,
            policy: self.weight,
            shadow: self.shadow,
            slow_start: self.slow_start.factor(now, slow_start, self.does_well()),
            factor: self.target,
            published: self.published.weight(),
            ejected: ejected.map(|until| until.since(now)),
        }
    }
}

impl Rebase for Record {
    fn rebase(&mut self, from: Moment, to: Moment) {
        self.signals.rebase(from, to);
        self.published.rebase(from, to);
        self.ejection.rebase(from, to);
        self.slow_start.rebase(from, to);
    }
}
