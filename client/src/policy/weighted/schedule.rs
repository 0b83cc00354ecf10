//! Whose turn it is at a position, from nothing but the position: so that a pick
//! takes one atomic addition, and threads need not agree on anything else.
//!
//! Weights in a simple proportion are a table of one round. Its order is that of
//! "pfair" scheduling (Baruah, Cohen, Plaxton and Varvel, 1996): the k-th call to
//! a backend with share p is due between the positions ⌊(k-1)/p⌋ and ⌈k/p⌉, and of
//! those that may come the one that must come first does. Then no backend is
//! ever a whole call ahead or behind its share.
//!
//! Other weights (one to a million, measured ones) have no table of sensible
//! length. There the position is a point on a circle that each call moves on by
//! the golden section, and each backend owns an arc as long as its share. What an
//! arc gets in *any* window of n calls differs from its share by O(log n), which
//! no step betters (by 5 in a million calls, at worst in a search for bad cases),
//! and the distances between its calls have at most three values.
//!
//! gRFC A58's static stride was the alternative: it takes an atomic addition for
//! each entry that it skips, up to a whole round of them for one call, cuts
//! weights to 16 bits, and its order is less even than either of these.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Longest round that is tabulated, unless each entry comes once in it.
const LONGEST_ROUND: u64 = 4096;

/// The golden section of 2⁶⁴, made odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// An endless order of turns.
#[derive(Debug)]
pub(super) enum Schedule {
    /// Over and over again this round.
    Round(Box<[u32]>),
    Circle(Circle),
}

/// Arcs of a circle of 2⁶⁴.
#[derive(Debug)]
pub(super) struct Circle {
    /// Where each entry's arc ends, and the next one's begins. An entry whose arc would be shorter
    /// than 1 has none.
    ends: Box<[u64]>,
    /// The entry that has the first point of each of 2ⁿ sectors, and the last entry
    /// that has any.
    sectors: Box<[u32]>,
    /// Shifts a point to its sector.
    shift: u32,
}

impl Schedule {
    /// For weights in the order of the entries, at least one and fewer than 2³².
    /// See the [policy](super) for weights that are no positive number.
    pub(super) fn new(weights: &[f64]) -> Self {
        let weights = shares(weights);
        match proportion(&weights) {
            Some(counts) => Self::Round(round(&counts)),
            None => Self::Circle(Circle::new(&weights)),
        }
    }

    /// The position at `random`.
    pub(super) fn position(&self, random: u64) -> u64 {
        match self {
            // Far from the end of the numbers, where the round would be cut.
            Self::Round(round) => random % round.len() as u64,
            Self::Circle(_) => random,
        }
    }

    /// From one position to the next. Wraps around.
    pub(super) fn step(&self) -> u64 {
        match self {
            Self::Round(_) => 1,
            Self::Circle(_) => GOLDEN,
        }
    }

    /// The entry whose turn it is at `position`.
    pub(super) fn turn(&self, position: u64) -> usize {
        match self {
            Self::Round(round) => round[(position % round.len() as u64) as usize] as usize,
            Self::Circle(circle) => circle.entry(position),
        }
    }
}

/// The weights as shares of the greatest, 0 to 1 and at least one of them 1.
fn shares(weights: &[f64]) -> Vec<f64> {
    let known = |weight: &f64| weight.is_finite() && *weight >= 0.0;
    let greatest = weights.iter().copied().filter(known).fold(0.0, f64::max);
    if greatest == 0.0 {
        // Nobody has a weight: nobody comes before the others.
        return vec![1.0; weights.len()];
    }
    // Divided first: the sum of weights may be infinite, and that of shares not.
    let positive = || {
        weights
            .iter()
            .filter(|weight| known(weight) && **weight > 0.0)
    };
    let mean = positive().map(|weight| weight / greatest).sum::<f64>() / positive().count() as f64;
    let share = |weight: &f64| match known(weight) {
        true => weight / greatest,
        false => mean,
    };
    weights.iter().map(share).collect()
}

/// How often each entry comes in a round, if there is a round short enough in
/// which the shares are met exactly.
fn proportion(shares: &[f64]) -> Option<Vec<u64>> {
    // However many there are, equal ones take turns.
    let longest = LONGEST_ROUND.max(shares.len() as u64);
    // The greatest share is 1, so its count is the denominator. 3:2 is found as
    // 1 and 0.666…, at 3.
    let smallest = shares.iter().copied().filter(|share| *share > 0.0);
    let smallest = smallest.fold(1.0, f64::min);
    let first = (1.0 / smallest).floor().max(1.0) as u64;
    (first..=LONGEST_ROUND).find_map(|greatest| {
        let mut sum = 0;
        let counts = shares.iter().map(|share| {
            let exact = share * greatest as f64;
            let count = exact.round();
            // Of shares that are quotients of small numbers only the last bits
            // are wrong.
            let fits = (exact - count).abs() <= 1e-12 * exact;
            sum += count as u64;
            (fits && sum <= longest).then_some(count as u64)
        });
        counts.collect::<Option<Vec<_>>>()
    })
}

/// One round in which each entry comes `counts` times.
fn round(counts: &[u64]) -> Box<[u32]> {
    let length: u64 = counts.iter().sum();
    // The next call of each entry, by when it may come.
    let mut later = BinaryHeap::new();
    // Those that may come now, by when they must.
    let mut now = BinaryHeap::new();
    for (entry, count) in counts.iter().enumerate() {
        if *count > 0 {
            later.push(Reverse((0, entry as u32, 0)));
        }
    }
    (0..length)
        .map(|position| {
            while let Some(Reverse((from, entry, call))) = later.peek().copied()
                && from <= position
            {
                later.pop();
                let due = ((call + 1) * length).div_ceil(counts[entry as usize]);
                now.push(Reverse((due, entry, call)));
            }
            // There is always one: shares add up to 1.
            let Reverse((_, entry, call)) = now.pop().unwrap_or(Reverse((0, 0, 0)));
            let from = (call + 1) * length / counts[entry as usize];
            later.push(Reverse((from, entry, call + 1)));
            entry
        })
        .collect()
}

impl Circle {
    fn new(shares: &[f64]) -> Self {
        let all: f64 = shares.iter().sum();
        let mut sum = 0.0;
        let mut ends: Box<[u64]> = shares
            .iter()
            .map(|share| {
                sum += share;
                // Saturates at the circle's last point.
                (sum / all * 2_f64.powi(64)) as u64
            })
            .collect();
        // Whoever is last with a share ends the circle, whatever was rounded.
        let last = shares.iter().rposition(|share| *share > 0.0).unwrap_or(0);
        ends[last..].fill(u64::MAX);
        let bits = (2 * shares.len()).next_power_of_two().ilog2();
        let shift = u64::BITS - bits;
        let sectors = 0..1_u64 << bits;
        let sectors = sectors.map(|sector| first_beyond(&ends, sector << shift) as u32);
        Self {
            sectors: sectors.chain([last as u32]).collect(),
            ends,
            shift,
        }
    }

    fn entry(&self, point: u64) -> usize {
        let sector = (point >> self.shift) as usize;
        let (first, last) = (self.sectors[sector], self.sectors[sector + 1]);
        let (first, last) = (first as usize, last as usize);
        first + first_beyond(&self.ends[first..last], point)
    }
}

/// The first arc that ends beyond `point`, or how many there are.
fn first_beyond(ends: &[u64], point: u64) -> usize {
    ends.partition_point(|end| *end <= point)
}
