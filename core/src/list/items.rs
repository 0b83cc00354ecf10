//! What the lists of a spec are made of.

use xxhash_rust::xxh3::xxh3_64;

use super::entry::{self, EncodedEntry};
use super::{Entry, ListSpec};
use crate::model::{BackendAddr, DropCategory, hash};

/// The backends of a spec, then its drops, each encoded once.
#[derive(Debug)]
pub(super) struct Items {
    pub(super) backends: Box<[BackendAddr]>,
    pub(super) drops: Box<[DropCategory]>,
    /// Stable hashes of backends and drops: all that is pseudo-random in a list
    /// comes from them, so that every replica makes the same lists.
    pub(super) ids: Box<[u64]>,
    pub(super) encoded: Box<[EncodedEntry]>,
}

impl Items {
    pub(super) fn new(spec: &ListSpec) -> Self {
        let backends = spec.backends.iter().map(|backend| backend.addr);
        let drops = spec.drops.iter().map(|drop| &drop.category);
        let drop_id = |category: &DropCategory| xxh3_64(category.as_str().as_bytes());
        Self {
            ids: backends
                .clone()
                .map(hash)
                .chain(drops.clone().map(drop_id))
                .collect(),
            encoded: backends
                .clone()
                .map(|addr| entry::backend(addr, None))
                .chain(drops.clone().map(|category| entry::drop(category, None)))
                .collect(),
            backends: backends.collect(),
            drops: drops.cloned().collect(),
        }
    }

    /// What a list calls item `item`.
    pub(super) fn entry(&self, item: u32) -> Entry {
        match item.checked_sub(self.backends.len() as u32) {
            None => Entry::Backend(item),
            Some(drop) => Entry::Drop(drop),
        }
    }

    /// What stands in a list with these counts, and how often.
    pub(super) fn listed<'a>(&'a self, counts: &'a [u32]) -> impl Iterator<Item = (&'a [u8], u32)> {
        let items = self.encoded.iter().map(EncodedEntry::as_slice);
        let items = items.zip(counts.iter().copied());
        items.filter(|(_, count)| *count > 0)
    }

    /// Longest entry of a backend, in bytes.
    pub(super) fn longest_backend(&self) -> usize {
        let backends = &self.encoded[..self.backends.len()];
        backends
            .iter()
            .map(EncodedEntry::len)
            .max()
            .unwrap_or_default()
    }

    /// Lengths of the drops' entries, in bytes.
    pub(super) fn drop_lens(&self) -> impl Iterator<Item = usize> {
        self.encoded[self.backends.len()..]
            .iter()
            .map(EncodedEntry::len)
    }

    /// Hashes of the drops.
    pub(super) fn drop_ids(&self) -> &[u64] {
        &self.ids[self.backends.len()..]
    }
}
