//! How often each backend and each drop stands in each variant.
//!
//! Weights become counts by the first rule that fits:
//! 1. The operator's own whole weights with a small common round: exactly those
//!    counts.
//! 2. Weights that hardly differ: each backend once.
//! 3. Otherwise so many slots a weight, rounded backend by backend. Rounding up
//!    or down is dithered: of the 16 variants a backend has the larger count in
//!    as many as brings their sum nearest to its share. No backend's rounding
//!    depends on another's, so one that comes, goes or changes leaves the counts
//!    of the others as they are.

use super::drops::{DropPlan, Shares};
use super::entry::{self, EncodedEntry};
use super::{ListSpec, VARIANTS};
use crate::model::hash;

/// Longest list, in entries: what C-core pays for a list grows with it.
const MAX_ENTRIES: f64 = 2000.0;

/// Longest list, in bytes: beyond HTTP/2's initial window of 65 535 a list
/// waits for the client's WINDOW_UPDATE.
const MAX_BYTES: f64 = 60_000.0;

/// Longest round of whole weights that is listed as it is.
const MAX_EXACT: u64 = 256;

/// Weights whose largest is within this factor of the smallest are equal.
const EQUAL: f64 = 1.03;

/// Slots that a whole list aims at, and a backend of mean weight gets at least
/// and at most.
const SLOTS: (f64, f64, f64) = (256.0, 4.0, 64.0);

/// Slots a list that put a backend into exactly one variant: the least that one
/// can have and be listed at all.
const LEAST: f64 = 1.0 / VARIANTS as f64;

/// The counts of all variants.
#[derive(Debug)]
pub(super) struct Counts {
    backends: Vec<Slots>,
    drops: DropPlan,
    variants: usize,
}

/// How often an item stands in a list, in the mean over the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slots {
    whole: u32,
    /// In 2⁻⁶⁴.
    part: u64,
    dither: u64,
}

impl Slots {
    /// `mean` slots for the item with this hash.
    pub(super) fn new(mean: f64, id: u64) -> Self {
        let whole = mean.floor();
        // Float casts saturate, and NaN becomes 0.
        Self {
            whole: whole as u32,
            part: ((mean - whole) * 2f64.powi(64)) as u64,
            // Which variants round up differs from item to item, by the hash's
            // low bits (the order is by its high ones). Half a step more rounds
            // the sum over the variants to the nearest.
            dither: (id << 60) | (1 << 59),
        }
    }

    /// The count in this variant.
    pub(super) fn count(self, variant: usize) -> u32 {
        // Bits reversed, so that a few streams are already spread evenly.
        let dither = self.dither.wrapping_add((variant as u64).reverse_bits());
        self.whole + u32::from(self.part.checked_add(dither).is_none())
    }
}

impl Counts {
    /// The counts for `spec`.
    pub(super) fn new(spec: &ListSpec) -> Self {
        let shares = Shares::new(&spec.drops);
        let cap = max_entries(spec, &shares);
        if spec.backends.is_empty() || shares.calls() == 0.0 {
            return Self {
                backends: Vec::new(),
                drops: DropPlan::only(&shares, cap as u32),
                variants: 1,
            };
        }
        let ids = spec.backends.iter().map(|backend| hash(backend.addr));
        // Backends that the longest list has room for, with all its drops.
        let room = cap * shares.calls();
        let weights = relative_weights(spec);
        let fits = |round: &Vec<u32>| round.iter().map(|c| f64::from(*c)).sum::<f64>() <= room;
        let exact = exact_round(spec)
            .or_else(|| equal_round(&weights))
            .filter(fits);
        let means: Vec<f64> = match &exact {
            Some(round) => round.iter().map(|count| f64::from(*count)).collect(),
            None => slots(spec, &weights, room),
        };
        let dithered = means.iter().any(|mean| mean.fract() != 0.0);
        let (repeats, drops) = if dithered {
            (1, DropPlan::dithered(shares, cap as u32))
        } else {
            DropPlan::exact(shares, means.iter().sum(), cap as u32)
        };
        let means = means.iter().map(|mean| mean * f64::from(repeats));
        Self {
            backends: means
                .zip(ids)
                .map(|(mean, id)| Slots::new(mean, id))
                .collect(),
            variants: if dithered || drops.is_dithered() {
                VARIANTS
            } else {
                1
            },
            drops,
        }
    }

    /// 1 if the counts come out exactly, else [`VARIANTS`].
    pub(super) fn variants(&self) -> usize {
        self.variants
    }

    /// Counts of the backends, then of the drops, in the spec's order.
    pub(super) fn variant(&self, variant: usize) -> Vec<u32> {
        let mut counts: Vec<u32> = self
            .backends
            .iter()
            .map(|slots| slots.count(variant))
            .collect();
        let mut backends: u32 = counts.iter().sum();
        if backends == 0 && !counts.is_empty() {
            // All but every call is dropped. Still no list is without a
            // backend: Go clients take none for an outage.
            let heaviest = (0..counts.len()).max_by_key(|i| {
                let slots = self.backends[*i];
                (
                    slots.whole,
                    slots.part,
                    slots.dither.wrapping_add((variant as u64) << 60),
                )
            });
            counts[heaviest.unwrap_or_default()] = 1;
            backends = 1;
        }
        self.drops.extend(&mut counts, backends, variant);
        counts
    }
}

/// Most entries that a list of this spec may have.
fn max_entries(spec: &ListSpec, shares: &Shares) -> f64 {
    let lens = spec.backends.iter().map(|b| entry::backend(b.addr).len());
    let backend = lens.max().unwrap_or_default() as f64;
    let mut mean = backend * shares.calls();
    for (drop, share) in spec.drops.iter().zip(shares.each()) {
        mean += share * entry::drop(&drop.category).len() as f64;
    }
    // Room for the prefixes and for a nonce, and for each category to round up.
    let slack = EncodedEntry::MAX_LEN * (2 + spec.drops.len());
    ((MAX_BYTES - slack as f64) / mean.max(1.0))
        .clamp(1.0, MAX_ENTRIES - spec.drops.len() as f64)
        .floor()
}

/// The weights over their largest, so that no sum of them overflows. What is no
/// weight counts as the smallest.
fn relative_weights(spec: &ListSpec) -> Vec<f64> {
    let usable = |weight: f64| {
        if weight.is_finite() && weight > 0.0 {
            weight
        } else {
            0.0
        }
    };
    let weights = spec.backends.iter().map(|backend| usable(backend.weight));
    let max = weights.clone().fold(f64::MIN_POSITIVE, f64::max);
    weights.map(|weight| weight / max).collect()
}

/// Rule 1: the counts of whole weights in lowest terms, if they are few.
fn exact_round(spec: &ListSpec) -> Option<Vec<u32>> {
    if !spec.operator_weights || spec.backends.len() as u64 > MAX_EXACT {
        return None;
    }
    let whole = |weight: f64| {
        (weight >= 1.0 && weight < 2f64.powi(53) && weight.fract() == 0.0).then_some(weight as u64)
    };
    let weights: Option<Vec<u64>> = spec.backends.iter().map(|b| whole(b.weight)).collect();
    let weights = weights?;
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let sum: u64 = weights.iter().map(|weight| weight / divisor).sum();
    (sum <= MAX_EXACT).then(|| weights.iter().map(|w| (w / divisor) as u32).collect())
}

/// Rule 2: each once, if the weights hardly differ.
fn equal_round(weights: &[f64]) -> Option<Vec<u32>> {
    let min = weights.iter().copied().fold(1.0, f64::min);
    (min * EQUAL >= 1.0).then(|| vec![1; weights.len()])
}

/// Rule 3: the mean slots of each backend.
fn slots(spec: &ListSpec, weights: &[f64], room: f64) -> Vec<f64> {
    let n = weights.len() as f64;
    let sum: f64 = weights.iter().sum();
    let min = weights.iter().copied().fold(1.0, f64::min);
    let mean = frozen_mean(spec, sum / n);
    let (list, least, most) = SLOTS;

    // An operator's small weight, a canary's, is in every list. A policy's is in
    // one variant at least: to lengthen all lists whenever a backend is down to
    // a tenth would change them all.
    let seen = if spec.operator_weights { 1.0 } else { LEAST };
    let wanted = (list / n).clamp(least, most).max(seen * mean / min);
    // The sum of dithered counts spreads by half the root of n at most; four
    // times that stays free.
    let room = (room - 2.0 * n.sqrt()).max(room / 2.0);
    let mut per_mean = wanted.min(room * mean / sum);
    if per_mean * min / mean < LEAST {
        let room = (room - n * LEAST).max(0.0);
        per_mean = wanted.min(room * mean / sum);
    }
    weights
        .iter()
        .map(|weight| snapped((per_mean / mean * weight).max(LEAST)))
        .collect()
}

/// The mean that the caller froze, over the largest weight as the weights are;
/// the true one if that is not near it.
fn frozen_mean(spec: &ListSpec, mean: f64) -> f64 {
    let max = spec
        .backends
        .iter()
        .map(|b| b.weight)
        .filter(|w| w.is_finite());
    let max = max.fold(f64::MIN_POSITIVE, f64::max);
    let frozen = spec.mean.map(|frozen| frozen / max);
    frozen
        .filter(|frozen| *frozen > mean / 2.0 && *frozen < mean * 2.0)
        .unwrap_or(mean)
}

/// `mean`, or the whole number that it is but for rounding errors.
fn snapped(mean: f64) -> f64 {
    let whole = mean.round();
    if (mean - whole).abs() < 1e-9 * mean {
        whole
    } else {
        mean
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
