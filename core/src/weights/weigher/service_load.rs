//! The load of a service as a whole.

use super::Weigher;
use super::record::Record;
use crate::weights::moment::Moment;
use crate::weights::settings::WeightSettings;
use crate::weights::signals::Freshness;
use crate::weights::statistics::median;

/// A backend that claims more than so many times the median's capacity counts
/// for no more.
const LARGEST: f64 = 6.0;

/// How busy a service is, by those of its backends that get calls, report and
/// are believed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServiceLoad {
    /// All calls over all capacity: what utilisation would be with weights
    /// balanced. But no more than what half of the calls meet: while most have
    /// room, a few that have none need less weight, and not fewer calls in all.
    /// Failures count as load. `None` if nobody reports; finite, and not below 0.
    pub utilization: Option<f64>,
    /// What share of the calls goes to those it is of, 0 to 1.
    pub covered: f64,
    /// Over how many seconds their reports are smoothed here.
    pub time_constant: f64,
    /// Over how many seconds the backends average before they report.
    pub window: f64,
}

/// What a backend adds to it.
#[derive(Debug, Clone, Copy)]
struct Part {
    weight: f64,
    qps: f64,
    utilization: f64,
}

impl Weigher {
    /// How busy the service is at `now`.
    #[must_use]
    pub fn service_load(&self, settings: &WeightSettings, now: Moment) -> ServiceLoad {
        let asked = settings.reports.interval;
        let counts = |record: &Record| {
            record.serving && record.signals.freshness(now, asked) == Freshness::Known
        };
        let mut load = ServiceLoad::default();
        let (mut listed, mut known, mut measured) = (0.0, 0.0, 0.0);
        let mut parts = Vec::with_capacity(self.records.len());
        for (addr, record) in &self.records {
            let Some(weight) = record.published.weight() else {
                continue;
            };
            listed += weight;
            if !counts(record) || !self.policy.trusts(*addr, now) {
                continue;
            }
            known += weight;
            let signals = &record.signals;
            // What it said while it had calls is not true of now.
            if signals.is_idle(now, asked) || signals.utilization() <= 0.0 {
                continue;
            }
            measured += weight;
            load.time_constant += weight * signals.time_constant();
            load.window += weight * signals.window().max(asked.as_secs_f64());
            parts.push(Part {
                weight,
                qps: signals.qps(),
                utilization: signals.utilization(),
            });
        }
        if known <= 0.0 || listed <= 0.0 {
            return load;
        }
        load.covered = known / listed;
        load.utilization = Some(0.0);
        if measured > 0.0 {
            load.time_constant /= measured;
            load.window /= measured;
            let balanced = balanced(&parts).min(usual(parts, measured));
            load.utilization = Some(balanced).filter(|u| u.is_finite());
        }
        load
    }
}

/// All calls over all capacity. Calls that are not counted are as the weights.
fn balanced(parts: &[Part]) -> f64 {
    let counted = parts.iter().all(|part| part.qps > 0.0);
    let calls = |part: &Part| if counted { part.qps } else { part.weight };
    let capacities = parts.iter().map(|part| calls(part) / part.utilization);
    let capacities: Vec<f64> = capacities.collect();
    let most = LARGEST * median(capacities.clone()).unwrap_or(f64::MAX);
    let capacity: f64 = capacities.iter().map(|capacity| capacity.min(most)).sum();
    parts.iter().map(calls).sum::<f64>() / capacity
}

/// The utilisation that half of the calls, by weight, meet at least.
fn usual(mut parts: Vec<Part>, weights: f64) -> f64 {
    parts.sort_by(|a, b| a.utilization.total_cmp(&b.utilization));
    let mut below = 0.0;
    let half = parts.iter().find(|part| {
        below += part.weight;
        below >= weights / 2.0
    });
    half.or_else(|| parts.last())
        .map_or(0.0, |part| part.utilization)
}
