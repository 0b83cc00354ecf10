//! Weights to lists: `grpc.lb.v1` has no weight field, so a backend's weight is
//! how often its address stands in the list, and a drop share is how many drop
//! entries stand between them.
//!
//! [`ServerLists`] is what one group of clients of one service is sent. It has
//! one variant if the weights come out exactly, else 16 that differ in their
//! rounding, so that over all clients the shares are right. A variant is
//! arranged and encoded when the first stream needs it, once, into one buffer
//! that all its streams share.
//!
//! Everything here follows from the spec alone, with hashes of the addresses in
//! place of chance: two replicas with one spec send the same lists.
//!
//! ```text
//! ListSpec ─ counts (dither, drops) ─ order ─ encode (items, entry) ─ frame ─► stream
//! ```

mod counts;
mod dither;
mod drops;
mod encode;
mod entry;
mod frame;
mod items;
mod order;

pub use encode::VariantList;
pub use frame::ListFrame;

use std::sync::{Arc, OnceLock};

use crate::model::{BackendAddr, DropShare};
use counts::Counts;
use items::Items;

/// Variants of a list whose weights do not come out exactly.
pub const VARIANTS: usize = 16;

/// What the lists are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct ListSpec {
    /// Backends to list, at least one, each address once.
    pub backends: Vec<ListedBackend>,
    /// Whether the weights are the operator's own, untouched by a policy or by
    /// slow start: only then small whole ratios are listed exactly, and is the
    /// smallest weight in every list.
    pub operator_weights: bool,
    /// The mean weight that slots are scaled by. It is kept from list to list
    /// while the true mean stays near, so that one backend's change does not
    /// move the counts of the others. `None`, or more than four times off: the
    /// mean of `backends`.
    pub mean: Option<f64>,
    /// Shares of all calls to drop; their sum is at most 1.
    pub drops: Vec<DropShare>,
}

/// A backend and its share relative to the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ListedBackend {
    /// Where it is.
    pub addr: BackendAddr,
    /// Above 0 and finite; anything else counts as next to nothing.
    pub weight: f64,
}

/// One turn of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Call this backend: index into [`ListSpec::backends`].
    Backend(u32),
    /// Drop the call: index into [`ListSpec::drops`].
    Drop(u32),
}

/// The lists of one group.
#[derive(Debug)]
pub struct ServerLists {
    spec: ListSpec,
    counts: Counts,
    items: Arc<Items>,
    variants: Box<[OnceLock<VariantList>]>,
}

impl ServerLists {
    /// Lists for `spec`. Counts are settled here; nothing is arranged yet.
    ///
    /// No list is empty and none is without a backend, but where all calls are
    /// dropped: then lists are of drops only. A spec without backends has no
    /// list worth sending (the caller sends `fallback_response`); it gets its
    /// drops, or an empty list.
    #[must_use]
    pub fn new(spec: ListSpec) -> Self {
        let items = Items::new(&spec);
        let counts = Counts::new(&spec, &items);
        Self {
            variants: (0..counts.variants()).map(|_| OnceLock::new()).collect(),
            items: Arc::new(items),
            counts,
            spec,
        }
    }

    /// What the lists are made of.
    #[must_use]
    pub fn spec(&self) -> &ListSpec {
        &self.spec
    }

    /// How many variants there are: 1 or [`VARIANTS`].
    #[must_use]
    pub fn variant_count(&self) -> usize {
        self.variants.len()
    }

    /// Whether the streams of this variant are sent the same list as by `old`,
    /// whatever the weights behind it. Told by the counts, for they and the
    /// entries' hashes settle the order. `false` if it might not be the same.
    #[must_use]
    pub fn has_same_variant(&self, old: &Self, variant: u64) -> bool {
        let of = |lists: &Self| (variant % lists.variants.len() as u64) as usize;
        // The streams of one variant would come from several.
        if self.variants.len() < old.variants.len() {
            return false;
        }
        let (new_counts, old_counts) = (self.counts.variant(of(self)), old.counts.variant(of(old)));
        let (new, old) = (
            self.items.listed(&new_counts),
            old.items.listed(&old_counts),
        );
        new.eq(old)
    }

    /// The variant for the stream with this ordinal, which keeps it for life:
    /// to move it would bias the dither.
    #[must_use]
    pub fn variant(&self, ordinal: u64) -> &VariantList {
        let variant = (ordinal % self.variants.len() as u64) as usize;
        self.variants[variant]
            .get_or_init(|| VariantList::new(&self.items, &self.counts.variant(variant)))
    }
}

#[cfg(test)]
mod tests;
