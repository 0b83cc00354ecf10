//! One scenario over several seeds.

use super::measure::PolicyOutcome;

/// What a policy came to over several seeds: the mean of each figure, and the
/// worst. What some seed never came to, the mean does not have either. Requests are
/// those of all. `None` of nothing.
#[must_use]
pub fn over_seeds(runs: &[&PolicyOutcome]) -> Option<(PolicyOutcome, PolicyOutcome)> {
    let first = *runs.first()?;
    let both = |figure: fn(&PolicyOutcome) -> f64| {
        let values = runs.iter().map(|run| figure(run));
        let sum: f64 = values.clone().sum();
        (sum / runs.len() as f64, values.fold(f64::MIN, f64::max))
    };
    let maybe = |figure: fn(&PolicyOutcome) -> Option<f64>| {
        let values: Option<Vec<f64>> = runs.iter().map(|run| figure(run)).collect();
        let values = values?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some((mean, values.iter().copied().fold(f64::MIN, f64::max)))
    };
    let pair = |figure: fn(&PolicyOutcome) -> Option<(f64, f64)>| {
        let values: Option<Vec<(f64, f64)>> = runs.iter().map(|run| figure(run)).collect();
        let values = values?;
        let count = values.len() as f64;
        let sum = |pick: fn(&(f64, f64)) -> f64| values.iter().map(pick).sum::<f64>() / count;
        let most = |pick: fn(&(f64, f64)) -> f64| values.iter().map(pick).fold(f64::MIN, f64::max);
        let means = (sum(|v| v.0), sum(|v| v.1));
        Some((means, (most(|v| v.0), most(|v| v.1))))
    };
    let (p99, mean) = (both(|r| r.max_over_avg), both(|r| r.mean_max_over_avg));
    let (worst, failed) = (both(|r| r.worst_utilization), both(|r| r.failed_share));
    // The least quiet is the worst.
    let (quiet, loud) = (both(|r| r.quiet_ticks), both(|r| -r.quiet_ticks));
    let dropped = both(|r| r.dropped_share);
    let (settle, level) = (maybe(|r| r.resettle_s), maybe(|r| r.level_s));
    let half = maybe(|r| r.first_half_minute);
    let (after, offenders) = (pair(|r| r.after_event), pair(|r| r.offenders));
    let means = PolicyOutcome {
        policy: first.policy,
        max_over_avg: p99.0,
        mean_max_over_avg: mean.0,
        after_event: after.map(|v| v.0),
        first_half_minute: half.map(|v| v.0),
        worst_utilization: worst.0,
        resettle_s: settle.map(|v| v.0),
        level_s: level.map(|v| v.0),
        quiet_ticks: quiet.0,
        failed_share: failed.0,
        failed: runs.iter().fold((0.0, 0.0), |(failed, all), run| {
            (failed + run.failed.0, all + run.failed.1)
        }),
        dropped_share: dropped.0,
        offenders: offenders.map(|v| v.0),
        picture: first.picture.clone(),
    };
    let worst = PolicyOutcome {
        max_over_avg: p99.1,
        mean_max_over_avg: mean.1,
        after_event: after.map(|v| v.1),
        first_half_minute: half.map(|v| v.1),
        worst_utilization: worst.1,
        resettle_s: settle.map(|v| v.1),
        level_s: level.map(|v| v.1),
        quiet_ticks: -loud.1,
        failed_share: failed.1,
        dropped_share: dropped.1,
        offenders: offenders.map(|v| v.1),
        ..means.clone()
    };
    Some((means, worst))
}
