//! One scenario over several seeds.

use crate::measure::PolicyOutcome;

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
    let quiet = (quiet.0, -loud.1);
    let dropped = both(|r| r.dropped_share);
    let (settle, level) = (maybe(|r| r.resettle_s), maybe(|r| r.level_s));
    let half = maybe(|r| r.first_half_minute);
    let (after, offenders) = (pair(|r| r.after_event), pair(|r| r.offenders));
    let requests = runs.iter().fold((0.0, 0.0), |(failed, all), run| {
        (failed + run.failed.0, all + run.failed.1)
    });
    let outcome = |of: Which| PolicyOutcome {
        policy: first.policy,
        max_over_avg: of.one(p99),
        mean_max_over_avg: of.one(mean),
        after_event: after.map(|v| of.one(v)),
        first_half_minute: half.map(|v| of.one(v)),
        worst_utilization: of.one(worst),
        resettle_s: settle.map(|v| of.one(v)),
        level_s: level.map(|v| of.one(v)),
        quiet_ticks: of.one(quiet),
        failed_share: of.one(failed),
        failed: requests,
        dropped_share: of.one(dropped),
        offenders: offenders.map(|v| of.one(v)),
        picture: first.picture.clone(),
    };
    Some((outcome(Which::Mean), outcome(Which::Worst)))
}

/// Which of a figure's two values.
#[derive(Debug, Clone, Copy)]
enum Which {
    Mean,
    Worst,
}

impl Which {
    fn one<T>(self, (mean, worst): (T, T)) -> T {
        match self {
            Self::Mean => mean,
            Self::Worst => worst,
        }
    }
}
