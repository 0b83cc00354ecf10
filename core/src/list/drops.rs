//! How many drop entries stand among the backends of a list.
//!
//! Clients walk the whole list and drop the call whose turn is a drop entry's;
//! so a category with share d of all calls takes d of all entries, that is
//! B·d/(1−Σd) beside B backend entries.

use crate::model::DropShare;

/// How far a category's share of an exact list may be off: 0.1 point.
const TOLERANCE: f64 = 0.001;

/// Below this share of calls that go to backends, none do: a sum of shares that
/// is meant as 1 need not be exactly 1.
const NONE: f64 = 1e-9;

/// The drop entries of all variants.
#[derive(Debug)]
pub(super) enum DropPlan {
    /// So many of each category in every list.
    Exact(Vec<u32>),
    /// As many as the backend entries of the variant ask for, with at most
    /// `max` entries in all.
    Dithered {
        /// What they ask for.
        shares: Shares,
        /// Most entries of a list.
        max: u32,
    },
}

impl DropPlan {
    /// For a list whose backends' counts are dithered.
    pub(super) fn dithered(shares: Shares, max: u32) -> Self {
        if shares.each.iter().all(|share| *share == 0.0) {
            return Self::Exact(vec![0; shares.each.len()]);
        }
        Self::Dithered { shares, max }
    }

    /// For a list with exactly `round` backend entries, at most `max` in all.
    /// Returns also how often to repeat it: the fewest times that bring every
    /// category within [`TOLERANCE`]. If no number does, the drops are dithered
    /// over the longest list.
    pub(super) fn exact(shares: Shares, round: f64, max: u32) -> (u32, Self) {
        let round = round.max(1.0);
        let most = (f64::from(max) * shares.calls / round).max(1.0) as u32;
        for repeats in 1..=most {
            let backends = f64::from(repeats) * round;
            let count = |share: &f64| (backends * share / shares.calls).round() as u32;
            let counts: Vec<u32> = shares.each.iter().map(count).collect();
            if shares.are_met_by(&counts, backends as u32) {
                return (repeats, Self::Exact(counts));
            }
        }
        (most, Self::dithered(shares, max))
    }

    /// For a list without backends, of at most `max` entries: the shortest whose
    /// categories are near enough.
    pub(super) fn only(shares: Shares, max: u32) -> Self {
        let sum: f64 = shares.each.iter().sum();
        if sum == 0.0 {
            return Self::Exact(vec![0; shares.each.len()]);
        }
        let each = shares.each.iter().map(|share| share / sum).collect();
        let shares = Shares { each, ..shares };
        let near = |len: u32| {
            let counts = apportion(&shares.each, len);
            shares.are_met_by(&counts, 0).then_some(counts)
        };
        let counts = (1..max).find_map(near);
        Self::Exact(counts.unwrap_or_else(|| apportion(&shares.each, max)))
    }

    /// Whether variants differ in their drops.
    pub(super) fn is_dithered(&self) -> bool {
        matches!(self, Self::Dithered { .. })
    }

    /// The counts of each of `variants`; `backends` says how many backend entries
    /// one has, which only dithered drops ask for.
    ///
    /// Variants want different fractions of an entry, as they have different
    /// numbers of backends. So what one was given too little or too much, the next
    /// ones make good: over all of them it is within one entry.
    pub(super) fn over(&self, variants: usize, backends: impl Fn(usize) -> u32) -> Vec<Vec<u32>> {
        let (shares, max) = match self {
            Self::Exact(drops) => return vec![drops.clone(); variants],
            Self::Dithered { shares, max } => (shares, max),
        };
        let dropped = 1.0 - shares.calls;
        // Categories round up at different variants.
        let phase = |id: &u64| (*id % 1024) as f64 / 1024.0;
        let mut due: Vec<f64> = shares.ids.iter().map(phase).collect();
        let counts = (0..variants).map(|variant| {
            let backends = backends(variant);
            let wanted = f64::from(backends) * dropped / shares.calls;
            let total = wanted.min(f64::from(max.saturating_sub(backends)));
            let each = shares.each.iter().zip(&mut due);
            let counts = each.map(|(share, due)| {
                *due += total * share / dropped;
                let count = due.floor();
                *due -= count;
                count as u32
            });
            counts.collect()
        });
        counts.collect()
    }
}

/// The drop shares of a spec, made sound.
#[derive(Debug)]
pub(super) struct Shares {
    each: Vec<f64>,
    /// The categories' hashes.
    ids: Vec<u64>,
    calls: f64,
}

impl Shares {
    /// Of these drops, whose hashes are `ids`.
    pub(super) fn new(drops: &[DropShare], ids: &[u64]) -> Self {
        let usable = |share: f64| if share > 0.0 { share.min(1.0) } else { 0.0 };
        let mut each: Vec<f64> = drops.iter().map(|drop| usable(drop.share)).collect();
        let sum: f64 = each.iter().sum();
        if sum > 1.0 - NONE {
            each.iter_mut().for_each(|share| *share /= sum);
        }
        Self {
            each,
            ids: ids.to_vec(),
            calls: if sum > 1.0 - NONE { 0.0 } else { 1.0 - sum },
        }
    }

    /// Share of all calls, for each category.
    pub(super) fn each(&self) -> &[f64] {
        &self.each
    }

    /// Share of all calls that go to backends; 0 if all are dropped.
    pub(super) fn calls(&self) -> f64 {
        self.calls
    }

    /// Whether so many entries beside so many backend entries are near enough.
    fn are_met_by(&self, drops: &[u32], backends: u32) -> bool {
        let total = f64::from(backends + drops.iter().sum::<u32>());
        self.each.iter().zip(drops).all(|(share, drops)| {
            // A share of 0.05 % is not met by no drop at all.
            (f64::from(*drops) / total - share).abs() <= TOLERANCE.min(share / 2.0)
        })
    }
}

/// `len` entries dealt by these shares, whose sum is 1: each gets its share
/// rounded down, and the largest remainders one more.
fn apportion(shares: &[f64], len: u32) -> Vec<u32> {
    let ideals: Vec<f64> = shares.iter().map(|share| share * f64::from(len)).collect();
    let mut counts: Vec<u32> = ideals.iter().map(|ideal| *ideal as u32).collect();
    let mut by_remainder: Vec<usize> = (0..shares.len()).collect();
    by_remainder.sort_by(|a, b| ideals[*b].fract().total_cmp(&ideals[*a].fract()));
    let rest = len.saturating_sub(counts.iter().sum());
    for index in by_remainder.into_iter().take(rest as usize) {
        counts[index] += 1;
    }
    counts
}
