//! Chance, from a seed: the same numbers on every machine, in every release.

use crate::exact::{ln, sqrt};

/// xoshiro256++, seeded by splitmix64.
#[derive(Debug, Clone)]
pub(super) struct Random {
    state: [u64; 4],
}

impl Random {
    /// A stream of numbers of its own for each `purpose`.
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        let mut state = xxhash_rust::xxh3::xxh3_64_with_seed(purpose.as_bytes(), seed);
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        Self {
            state: [next(), next(), next(), next()],
        }
    }

    pub(super) fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Above 0 and below 1.
    pub(super) fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) * (1.0 / (1u64 << 53) as f64)
    }

    pub(super) fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    /// Below `count`, which is above 0.
    pub(super) fn index(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// Normal, with mean 0 and deviation 1.
    pub(super) fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (self.between(-1.0, 1.0), self.between(-1.0, 1.0));
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * sqrt(-2.0 * ln(square) / square);
            }
        }
    }

    /// How many events there are, if `mean` are expected.
    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return (mean + sqrt(mean) * self.normal() + 0.5).max(0.0) as u64;
        }
        let mut left = mean;
        let mut count = 0;
        loop {
            left += ln(self.unit());
            if left < 0.0 {
                return count;
            }
            count += 1;
        }
    }

    /// The sum of values that are gamma-distributed with mean 1: so many, with
    /// this coefficient of variation.
    pub(super) fn gamma_sum(&mut self, count: f64, cv: f64) -> f64 {
        let scale = cv * cv;
        if count <= 0.0 || scale <= 0.0 {
            return count.max(0.0);
        }
        let shape = count / scale;
        if shape < 1.0 {
            // Of so few the mean is exact, and the deviation near enough.
            return -ln(self.unit()) * count;
        }
        // Marsaglia and Tsang's method.
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let v = v * v * v;
            if ln(self.unit()) < 0.5 * x * x + d - d * v + d * ln(v) {
                return d * v * scale;
            }
        }
    }

    /// The numbers below `count` in any order.
    pub(super) fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.index(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let n = 20_000;
        let values: Vec<f64> = (0..n).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        let squares = values.iter().map(|v| (v - mean) * (v - mean));
        (mean, (squares.sum::<f64>() / f64::from(n)).sqrt())
    }

    fn near(found: (f64, f64), wanted: (f64, f64)) {
        let close = |a: f64, b: f64| (a - b).abs() <= 0.03 * b.abs() + 0.03;
        assert!(
            close(found.0, wanted.0) && close(found.1, wanted.1),
            "{found:?}, not {wanted:?}"
        );
    }

    #[test]
    fn distributions_have_their_means_and_deviations() {
        let mut random = Random::new(1, "test");
        near(moments(|| random.normal()), (0.0, 1.0));
        near(moments(|| random.poisson(4.0) as f64), (4.0, 2.0));
        near(moments(|| random.poisson(100.0) as f64), (100.0, 10.0));
        near(moments(|| random.gamma_sum(16.0, 0.5)), (16.0, 2.0));
        near(moments(|| random.gamma_sum(1.0, 1.0)), (1.0, 1.0));
    }

    #[test]
    fn a_seed_is_a_promise() {
        let draw = |seed, purpose| Random::new(seed, purpose).bits();
        assert_eq!(draw(7, "traffic"), draw(7, "traffic"));
        assert_ne!(draw(7, "traffic"), draw(8, "traffic"));
        assert_ne!(draw(7, "traffic"), draw(7, "hosts"));
    }
}
