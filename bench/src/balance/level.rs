//! How level the backends are: largest over mean utilisation, over time.

/// Utilisation is judged smoothed over so many seconds, as in `lookaside simulate`.
const SMOOTHED: f64 = 10.0;

/// Smoothed utilisation of a few backends, and what it was in each phase.
#[derive(Debug, Clone, Default)]
pub(super) struct Level {
    smoothed: Vec<f64>,
    /// Phase and largest over mean, for each look.
    looks: Vec<(usize, f64)>,
    /// Sums of what each backend used in each phase, and for how long.
    sums: Vec<(Vec<f64>, f64)>,
}

impl Level {
    /// Each backend used this share of its permits over the last `seconds`.
    pub(super) fn look(&mut self, phase: usize, used: &[f64], seconds: f64) {
        if self.smoothed.is_empty() {
            self.smoothed = used.to_vec();
        }
        let share = 1.0 - (-seconds / SMOOTHED).exp();
        for (smoothed, used) in self.smoothed.iter_mut().zip(used) {
            *smoothed += share * (used - *smoothed);
        }
        let most = self.smoothed.iter().copied().fold(0.0, f64::max);
        let mean = self.smoothed.iter().sum::<f64>() / self.smoothed.len() as f64;
        if mean > 0.0 {
            self.looks.push((phase, most / mean));
        }
        if self.sums.len() <= phase {
            self.sums.resize(phase + 1, (vec![0.0; used.len()], 0.0));
        }
        let (sums, over) = &mut self.sums[phase];
        for (sum, used) in sums.iter_mut().zip(used) {
            *sum += used * seconds;
        }
        *over += seconds;
    }

    /// What largest over mean was below for 99 % of a phase, and its mean; not
    /// numbers for a phase without looks.
    pub(super) fn of(&self, phase: usize) -> (f64, f64) {
        let looks = self.looks.iter().filter(|(of, _)| *of == phase);
        let mut ratios: Vec<f64> = looks.map(|(_, ratio)| *ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let p99 = ratios.get(ratios.len() * 99 / 100);
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        (p99.copied().unwrap_or(f64::NAN), mean)
    }

    /// What share of its permits each backend used in a phase.
    pub(super) fn used(&self, phase: usize) -> Vec<f64> {
        let found = self.sums.get(phase);
        let means = found.map(|(sums, over)| sums.iter().map(|sum| sum / over).collect());
        means.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_judged_by_their_own_looks() {
        let mut level = Level::default();
        for _ in 0..100 {
            level.look(0, &[0.5, 0.5], 1.0);
        }
        assert_eq!(level.of(0), (1.0, 1.0));
        for _ in 0..100 {
            level.look(1, &[0.75, 0.25], 1.0);
        }
        let (p99, mean) = level.of(1);
        assert!((p99 - 1.5).abs() < 1e-3 && mean > 1.3 && mean < p99);
        assert_eq!(level.used(1), [0.75, 0.25]);
        assert!(level.of(2).0.is_nan() && level.used(2).is_empty());
    }
}
