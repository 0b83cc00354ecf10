//! Smooth weighted round robin, as nginx has it: even for a few items of simple
//! ratios, but as many steps as items for each entry.

use std::cmp::Reverse;

/// Which of several items that are equally due comes first. It decides how even
/// the order is, and neither is best for all ratios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ties {
    /// The first of them, as nginx has it.
    First,
    /// The one that stands most often.
    Heaviest,
}

/// Items (indexes into `counts`) in the order of one round; item i stands
/// `counts[i]` times.
pub(super) fn smooth_round_robin(counts: &[u32], ties: Ties) -> Vec<u32> {
    let mut items: Vec<Item> = (0..)
        .zip(counts)
        .filter(|(_, count)| **count > 0)
        .map(|(index, count)| Item {
            index,
            count: i64::from(*count),
            due: 0,
        })
        .collect();
    if ties == Ties::Heaviest {
        items.sort_by_key(|item| Reverse(item.count));
    }
    let total: i64 = items.iter().map(|item| item.count).sum();
    (0..total).map(|_| next(&mut items, total)).collect()
}

/// One item and how far it is behind its share, in 1/total of an entry.
struct Item {
    index: u32,
    count: i64,
    due: i64,
}

/// The first of the items that are most due.
fn next(items: &mut [Item], total: i64) -> u32 {
    let (mut first, mut most) = (0, i64::MIN);
    for (at, item) in items.iter_mut().enumerate() {
        item.due += item.count;
        if item.due > most {
            (first, most) = (at, item.due);
        }
    }
    items[first].due -= total;
    items[first].index
}
