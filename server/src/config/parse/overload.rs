//! `overload`: when a service's calls are dropped because there are too many.

use super::read::Node;
use crate::config::error::Faults;
use lookaside_core::model::{BadOverloadDrops, DropShare, OverloadDrops};

/// Reads it; `drops` are the operator's own.
pub(crate) fn read(
    node: &Node<'_>,
    drops: Option<&[DropShare]>,
    faults: &mut Faults,
) -> Option<OverloadDrops> {
    let mut table = node.table(faults, "{ utilization = 0.9, max = 0.5 }")?;
    let category = OverloadDrops::CATEGORY;
    let taken = |drop: &DropShare| drop.category.as_str() == category;
    if drops.unwrap_or_default().iter().any(taken) {
        let message = format!(
            "`{category}` is the category of these drops, and one of `drop` too; rename that"
        );
        faults.clash(&node.place, message);
    }
    let bound = table.require("utilization", faults, "0.9");
    let most = table.take("max");
    let utilization = bound.as_ref().and_then(|node| node.number(faults, "0.9"));
    let max = most.as_ref().map(|node| node.number(faults, "0.5"));
    table.finish(faults, &[]);
    let max = max.unwrap_or(Some(OverloadDrops::MAX));
    // A stand-in shows whether one is right if the other is no number.
    let checked = OverloadDrops::new(utilization.unwrap_or(1.0), max.unwrap_or(0.5));
    match (&checked, bound, most) {
        (Err(error @ BadOverloadDrops::Utilization(_)), Some(node), _)
        | (Err(error @ BadOverloadDrops::Max(_)), _, Some(node)) => {
            faults.wrong(&node.place, error);
        }
        _ => {}
    }
    utilization.and(max)?;
    checked.ok()
}
