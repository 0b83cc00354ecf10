//! What reports say of a backend, as logarithms.

use crate::weights::policy::Observed;
use crate::weights::signals::Freshness;
use crate::weights::statistics::ln;

/// Whether what it reports is of now and was for a while.
pub(super) fn is_fresh(backend: &Observed<'_>) -> bool {
    backend.freshness == Freshness::Known && !backend.ejected && backend.signals.utilization() > 0.0
}

pub(super) fn ln_capacity(backend: &Observed<'_>) -> Option<f64> {
    let signals = backend.signals;
    (signals.qps() > 0.0 && signals.utilization() > 0.0 && !backend.ejected)
        .then(|| ln(signals.qps()) - ln(signals.utilization()))
}

/// Its capacity as the newest report alone has it.
pub(super) fn ln_newest_capacity(backend: &Observed<'_>) -> Option<f64> {
    let last = backend.signals.last()?;
    (last.qps > 0.0 && last.utilization > 0.0).then(|| ln(last.qps) - ln(last.utilization))
}

pub(super) fn ln_skew(backend: &Observed<'_>) -> Option<f64> {
    let published = backend.published.smoothed()?;
    (backend.signals.qps() > 0.0 && published > 0.0)
        .then(|| ln(backend.signals.qps()) - ln(published))
}
