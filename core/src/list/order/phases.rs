//! Order by position, in about linear time.
//!
//! Copy k of c stands at (k + φ)/c of the round, where φ in 0..1 is the item's
//! own, from its hash. So gaps are even, items do not beat in step, and one that
//! joins or leaves does not move the others.

/// Items (indexes into `counts`) in the order of the round; item i stands
/// `counts[i]` times. `ids` are hashes of the items.
pub(super) fn by_position(counts: &[u32], ids: &[u64]) -> Vec<u32> {
    let total: u32 = counts.iter().sum();
    // Positions are spread evenly, so with a bucket for each entry every bucket
    // holds about one, and sorting is nearly done.
    let bucket = |position: u64| high_product(position, u64::from(total)) as usize;
    let mut ends = vec![0u32; total as usize];
    for_each_slot(counts, ids, |slot| ends[bucket(slot.position)] += 1);
    let mut sum = 0;
    for end in &mut ends {
        sum += *end;
        *end = sum;
    }
    let mut slots = vec![Slot::default(); total as usize];
    for_each_slot(counts, ids, |slot| {
        let end = &mut ends[bucket(slot.position)];
        *end -= 1;
        slots[*end as usize] = slot;
    });
    insertion_sort(&mut slots, |slot| (slot.position, ids[slot.item as usize]));
    slots.into_iter().map(|slot| slot.item).collect()
}

/// A turn in the round.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// In 2⁻⁶⁴ of the round.
    position: u64,
    item: u32,
}

fn for_each_slot(counts: &[u32], ids: &[u64], mut visit: impl FnMut(Slot)) {
    for (item, (&count, &id)) in (0u32..).zip(counts.iter().zip(ids)) {
        let step = u64::MAX / u64::from(count.max(1));
        let mut position = high_product(id, step);
        for _ in 0..count {
            visit(Slot { position, item });
            position = position.wrapping_add(step);
        }
    }
}

/// Quick for what is nearly sorted.
fn insertion_sort<K: Ord>(slots: &mut [Slot], key: impl Fn(&Slot) -> K) {
    for next in 1..slots.len() {
        let slot = slots[next];
        let mut at = next;
        while at > 0 && key(&slots[at - 1]) > key(&slot) {
            slots[at] = slots[at - 1];
            at -= 1;
        }
        slots[at] = slot;
    }
}

/// `a · b / 2⁶⁴`
fn high_product(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}
