//! Rounding that comes out right over the variants.

use super::VARIANTS;

/// How often an item stands in a list: a mean over the variants, each of which
/// rounds it down or up. Of the 16, as many round up as bring their sum nearest
/// to 16 means; which ones, differs from item to item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dithered {
    whole: u32,
    /// In 2⁻⁶⁴.
    part: u64,
    /// What is added to `part` in variant 0.
    offset: u64,
}

impl Dithered {
    /// The least mean above 0 that any variant rounds up: exactly one does.
    pub(super) const LEAST: f64 = 1.0 / VARIANTS as f64;

    /// `mean` times in a list, for the item with this hash.
    pub(super) fn new(mean: f64, id: u64) -> Self {
        let whole = mean.floor();
        // Casts saturate, and NaN becomes 0.
        Self {
            whole: whole as u32,
            part: ((mean - whole) * 2f64.powi(64)) as u64,
            // A step of 1/16 by the hash's low bits (the order is by its high
            // ones), and half a step, which rounds the sum to the nearest.
            offset: (id << 60) | (1 << 59),
        }
    }

    /// How often it stands in this variant.
    pub(super) fn count(self, variant: usize) -> u32 {
        self.whole + u32::from(self.part.checked_add(self.offset(variant)).is_none())
    }

    /// Orders items by their mean; of equals another comes last in each variant.
    pub(super) fn rank(self, variant: usize) -> (u32, u64, u64) {
        (self.whole, self.part, self.offset(variant))
    }

    /// Whether no variant has it.
    pub(super) fn is_never(self) -> bool {
        self.whole == 0 && self.part == 0
    }

    /// Steps of 1/16, all 16 over the variants. Their bits are reversed, so
    /// that the first few streams are spread evenly already.
    fn offset(self, variant: usize) -> u64 {
        self.offset.wrapping_add((variant as u64).reverse_bits())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn variants_add_up_to_the_nearest(mean in 0.0..1e4, id: u64) {
            let item = Dithered::new(mean, id);
            let counts: Vec<u32> = (0..VARIANTS).map(|variant| item.count(variant)).collect();
            let sum = f64::from(counts.iter().sum::<u32>());
            prop_assert!((sum - 16.0 * mean).abs() <= 0.5 + 1e-6);
            for count in counts {
                prop_assert!((f64::from(count) - mean).abs() < 1.0);
            }
        }

        #[test]
        fn least_mean_is_in_exactly_one_variant(id: u64) {
            let item = Dithered::new(Dithered::LEAST, id);
            let sum: u32 = (0..VARIANTS).map(|variant| item.count(variant)).sum();
            prop_assert_eq!(sum, 1);
        }

        #[test]
        fn whole_means_are_kept(mean in 0u32..2000, id: u64, variant in 0..VARIANTS) {
            prop_assert_eq!(Dithered::new(f64::from(mean), id).count(variant), mean);
        }
    }
}
