//! How often each backend and each drop stands in each variant.
//!
//! Weights become counts by the first rule that fits:
//! 1. The operator's own weights, if their ratio is one of small whole numbers:
//!    exactly that ratio.
//! 2. Weights that hardly differ: each backend once.
//! 3. Otherwise so many slots a weight, each backend's dithered by itself: one
//!    that comes, goes or changes leaves the counts of the others as they are.

use super::dither::Dithered;
use super::drops::{DropPlan, Shares};
use super::entry::EncodedEntry;
use super::items::Items;
use super::{ListSpec, VARIANTS};

/// Longest list, in entries: what a list costs a C-core client grows with it.
const MAX_ENTRIES: usize = 2000;

/// Longest list, in bytes: beyond HTTP/2's initial window of 65 535 a list
/// waits for the client's WINDOW_UPDATE.
const MAX_BYTES: usize = 60_000;

/// Longest round that rule 1 takes.
const MAX_EXACT: u64 = 256;

/// Rule 2 takes weights whose largest is at most this times the smallest.
const EQUAL: f64 = 1.03;

/// Entries that rule 3 aims at, with `MIN_SLOTS` to `MAX_SLOTS` for a backend of
/// mean weight.
const AIM: f64 = 256.0;
const MIN_SLOTS: f64 = 4.0;
const MAX_SLOTS: f64 = 64.0;

/// The counts of all variants.
#[derive(Debug)]
pub(super) struct Counts {
    backends: Vec<Dithered>,
    /// Of each variant.
    drops: Vec<Vec<u32>>,
}

impl Counts {
    /// The counts for `spec`, whose items are `items`.
    pub(super) fn new(spec: &ListSpec, items: &Items) -> Self {
        let shares = Shares::new(&spec.drops, items.drop_ids());
        let cap = max_entries(&shares, items);
        let (means, drops) = if shares.calls() == 0.0 || spec.backends.is_empty() {
            (vec![0.0; spec.backends.len()], DropPlan::only(shares, cap))
        } else {
            // Backends have to leave room for the drops.
            let room = f64::from(cap) * shares.calls();
            backends_and_drops(mean_counts(spec, room), shares, cap)
        };
        let dithered = drops.is_dithered() || means.iter().any(|mean| mean.fract() != 0.0);
        let with_ids = means.into_iter().zip(&items.ids);
        let backends: Vec<Dithered> = with_ids
            .map(|(mean, id)| Dithered::new(mean, *id))
            .collect();
        let variants = if dithered { VARIANTS } else { 1 };
        let listed = |variant| backend_counts(&backends, variant).iter().sum();
        Self {
            drops: drops.over(variants, listed),
            backends,
        }
    }

    /// 1 if the counts come out exactly, else [`VARIANTS`].
    pub(super) fn variants(&self) -> usize {
        self.drops.len()
    }

    /// Counts of the backends, then of the drops, in the spec's order.
    pub(super) fn variant(&self, variant: usize) -> Vec<u32> {
        let mut counts = backend_counts(&self.backends, variant);
        counts.extend(&self.drops[variant]);
        counts
    }
}

/// Counts of the backends in a variant. All but a few calls may be dropped; still
/// each list needs a backend: Go clients take a list without one for an outage.
fn backend_counts(backends: &[Dithered], variant: usize) -> Vec<u32> {
    let counts = backends.iter().map(|item| item.count(variant));
    let mut counts: Vec<u32> = counts.collect();
    if counts.iter().all(|count| *count == 0) {
        let ranked = backends.iter().enumerate();
        let heaviest = ranked.max_by_key(|(_, item)| item.rank(variant));
        if let Some((index, _)) = heaviest.filter(|(_, item)| !item.is_never()) {
            counts[index] = 1;
        }
    }
    counts
}

/// Counts that come out exactly are repeated until the drops do, too.
fn backends_and_drops(means: Vec<f64>, shares: Shares, cap: u32) -> (Vec<f64>, DropPlan) {
    if means.iter().any(|mean| mean.fract() != 0.0) {
        return (means, DropPlan::dithered(shares, cap));
    }
    let (repeats, drops) = DropPlan::exact(shares, means.iter().sum(), cap);
    let repeated = means.iter().map(|mean| mean * f64::from(repeats));
    (repeated.collect(), drops)
}

/// Most entries that a list may have.
fn max_entries(shares: &Shares, items: &Items) -> u32 {
    let backend = items.longest_backend() as f64 * shares.calls();
    let drops = shares.each().iter().zip(items.drop_lens());
    let entry = backend + drops.map(|(share, len)| share * len as f64).sum::<f64>();
    // Each category may round up, and a frame has a prefix and perhaps a nonce.
    let slack = EncodedEntry::MAX_LEN * (shares.each().len() + 2);
    let fit = MAX_BYTES.saturating_sub(slack) as f64 / entry.max(1.0);
    let most = MAX_ENTRIES.saturating_sub(shares.each().len());
    fit.clamp(1.0, most.max(1) as f64) as u32
}

/// How often each backend stands in a list, in the mean over the variants, if
/// the list has room for so many backend entries.
fn mean_counts(spec: &ListSpec, room: f64) -> Vec<f64> {
    let weights = Weights::new(spec);
    exact_ratio(spec)
        .or_else(|| weights.equal())
        .filter(|round| round.iter().sum::<f64>() <= room)
        .unwrap_or_else(|| weights.slots(room))
}

/// Rule 1: the weights in lowest terms. An operator may write 0.5 for a half:
/// up to three decimals are scaled away.
fn exact_ratio(spec: &ListSpec) -> Option<Vec<f64>> {
    if !spec.operator_weights || spec.backends.len() as u64 > MAX_EXACT {
        return None;
    }
    let scaled = |scale: f64| -> Option<Vec<u64>> {
        let weights = spec.backends.iter().map(|backend| backend.weight * scale);
        weights.map(whole).collect()
    };
    let weights = [1.0, 10.0, 100.0, 1000.0].into_iter().find_map(scaled)?;
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let round = weights.iter().map(|weight| weight / divisor);
    (round.clone().sum::<u64>() <= MAX_EXACT).then(|| round.map(|count| count as f64).collect())
}

/// The whole number, from 1, that `weight` is but for rounding errors.
fn whole(weight: f64) -> Option<u64> {
    let whole = snapped(weight);
    // Far more than any ratio of 256 needs, and no sum of them overflows.
    let countable = (1.0..1e15).contains(&whole) && whole.fract() == 0.0;
    countable.then_some(whole as u64)
}

fn snapped(mean: f64) -> f64 {
    let whole = mean.round();
    if (mean - whole).abs() <= 1e-9 * mean {
        whole
    } else {
        mean
    }
}

/// The greatest number that divides both; 0 is divided by all.
pub(super) fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The weights of a spec as shares of the largest, so that no sum overflows.
struct Weights {
    /// 0 to 1; 0 also for what is no weight.
    each: Vec<f64>,
    sum: f64,
    smallest: f64,
    /// The frozen mean if it is sound, else the true one.
    mean: f64,
    /// An operator's small weight, a canary's, is in every list. A policy's is
    /// in one variant at least: to lengthen the lists whenever a backend is down
    /// to a tenth would change the counts of all.
    least_slots: f64,
}

impl Weights {
    fn new(spec: &ListSpec) -> Self {
        let sound = |weight: &f64| weight.is_finite() && *weight > 0.0;
        let weights = spec.backends.iter().map(|backend| backend.weight);
        let largest = weights
            .clone()
            .filter(sound)
            .fold(f64::MIN_POSITIVE, f64::max);
        let each: Vec<f64> = weights
            .map(|weight| {
                if sound(&weight) {
                    weight / largest
                } else {
                    0.0
                }
            })
            .collect();
        let sum: f64 = each.iter().sum();
        let mean = sum / each.len().max(1) as f64;
        let frozen = spec.mean.map(|frozen| frozen / largest);
        let near = |frozen: &f64| (mean / 4.0..=mean * 4.0).contains(frozen);
        Self {
            sum,
            smallest: each.iter().copied().fold(1.0, f64::min),
            mean: frozen.filter(near).unwrap_or(mean),
            least_slots: if spec.operator_weights {
                1.0
            } else {
                Dithered::LEAST
            },
            each,
        }
    }

    /// Rule 2: each once, if they hardly differ.
    fn equal(&self) -> Option<Vec<f64>> {
        (self.smallest * EQUAL >= 1.0).then(|| vec![1.0; self.each.len()])
    }

    /// Rule 3: so many slots a weight.
    fn slots(&self, room: f64) -> Vec<f64> {
        let n = self.each.len() as f64;
        let per_mean = (AIM / n).clamp(MIN_SLOTS, MAX_SLOTS);
        let wanted = (per_mean / self.mean).max(self.least_slots / self.smallest);
        // The sum of n dithered counts varies by √n/2 at most (one sigma), so
        // that four sigmas stay free.
        let room = (room - 2.0 * n.sqrt()).max(room / 2.0);
        let mut per_weight = wanted.min(room / self.sum);
        if per_weight * self.smallest < Dithered::LEAST {
            let room = (room - n * Dithered::LEAST).max(0.0);
            per_weight = wanted.min(room / self.sum);
        }
        let slots = |weight: &f64| snapped((per_weight * weight).max(Dithered::LEAST));
        self.each.iter().map(slots).collect()
    }
}
