//! In which order entries stand.
//!
//! Clients take entries strictly in order, so equal entries must stand far
//! apart. Copy k of c stands at (k + φ)/c of the round, where φ is the item's
//! own, from its hash: gaps are even, no two items beat in step, and an item
//! that comes or goes leaves the others in their order.

/// Items (indexes into `counts`) in the order of the round; item i stands
/// `counts[i]` times. `ids` are hashes of the items.
pub(super) fn arrange(counts: &[u32], ids: &[u64]) -> Vec<u32> {
    let total: u32 = counts.iter().sum();
    let mut slots = Vec::with_capacity(total as usize);
    for (item, (&count, &id)) in counts.iter().zip(ids).enumerate() {
        // Positions are 64-bit fractions of the round.
        let step = u64::MAX / u64::from(count.max(1));
        let phase = high_product(id, step);
        slots.extend((0..u64::from(count)).map(|k| (phase + k * step, id, item as u32)));
    }
    slots.sort_unstable();
    slots.into_iter().map(|(_, _, item)| item).collect()
}

/// `a · b / 2⁶⁴`
fn high_product(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}
