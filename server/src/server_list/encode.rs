//! A variant's bytes.

use bytes::Bytes;

use super::entry::{self, EncodedEntry};
use super::frame::ListFrame;
use super::order::arrange;
use super::{Entry, ListSpec, drops};
use crate::model::{BackendAddr, DropCategory, Nonce, hash};

/// One variant, arranged and encoded.
///
/// The buffer holds the encoding twice, back to back: from whichever entry a
/// stream starts, its round is one slice.
#[derive(Debug)]
pub struct VariantList {
    entries: Box<[Entry]>,
    /// Where each entry begins in the first half of `doubled`, and where the
    /// second half begins.
    offsets: Box<[u32]>,
    doubled: Bytes,
    /// What a nonce may have to be written behind.
    items: Items,
}

/// The entries that the lists of a spec are made of, encoded: the backends,
/// then the drops.
#[derive(Debug, Clone)]
pub(super) struct Items(std::sync::Arc<[Item]>);

#[derive(Debug)]
struct Item {
    name: Name,
    /// A stable hash of the name.
    id: u64,
    entry: EncodedEntry,
}

#[derive(Debug)]
enum Name {
    Backend(BackendAddr),
    Drop(DropCategory),
}

impl Items {
    pub(super) fn new(spec: &ListSpec) -> Self {
        let backends = spec.backends.iter().map(|backend| Item {
            name: Name::Backend(backend.addr),
            id: hash(backend.addr),
            entry: entry::backend(backend.addr),
        });
        let drops = spec.drops.iter().map(|drop| Item {
            name: Name::Drop(drop.category.clone()),
            id: drops::id(&drop.category),
            entry: entry::drop(&drop.category),
        });
        Self(backends.chain(drops).collect())
    }
}

impl VariantList {
    /// The list in which item i stands `counts[i]` times.
    pub(super) fn new(items: Items, counts: &[u32]) -> Self {
        let ids: Vec<u64> = items.0.iter().map(|item| item.id).collect();
        let order = arrange(counts, &ids);
        let mut doubled = Vec::new();
        let mut offsets = Vec::with_capacity(order.len() + 1);
        for item in &order {
            offsets.push(doubled.len() as u32);
            doubled.extend_from_slice(items.0[*item as usize].entry.as_slice());
        }
        offsets.push(doubled.len() as u32);
        doubled.extend_from_within(..);
        let backends = items
            .0
            .iter()
            .filter(|i| matches!(i.name, Name::Backend(_)))
            .count() as u32;
        let entry = |item: u32| match item.checked_sub(backends) {
            None => Entry::Backend(item),
            Some(drop) => Entry::Drop(drop),
        };
        Self {
            entries: order.into_iter().map(entry).collect(),
            offsets: offsets.into(),
            doubled: doubled.into(),
            items,
        }
    }

    /// The round, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many entries the round has.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no list is empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The list as a framed `LoadBalanceResponse`, starting at entry
    /// `rotation` (any number; taken modulo the length).
    #[must_use]
    pub fn frame(&self, rotation: u64) -> ListFrame {
        let start = self.start(rotation);
        ListFrame::new(self.slice(start, self.len()), &[])
    }

    /// The same for the first list of a stream: the last entry, a backend's,
    /// carries `nonce`; the rotation moves to the next that ends with one. In
    /// an all-drop list a drop's token carries it.
    #[must_use]
    pub fn first_frame(&self, rotation: u64, nonce: Nonce) -> ListFrame {
        let len = self.len();
        if len == 0 {
            return self.frame(rotation);
        }
        let start = self.start(rotation);
        let last_of = |start: usize| (start + len - 1) % len;
        let is_backend = |at: &usize| matches!(self.entries[last_of(*at)], Entry::Backend(_));
        let start = (start..start + len)
            .map(|at| at % len)
            .find(is_backend)
            .unwrap_or(start);
        let last = match self.name(last_of(start)) {
            Name::Backend(addr) => entry::backend_with_nonce(*addr, nonce),
            Name::Drop(category) => entry::drop_with_nonce(category, nonce),
        };
        ListFrame::new(self.slice(start, len - 1), last.as_slice())
    }

    fn start(&self, rotation: u64) -> usize {
        (rotation % self.len().max(1) as u64) as usize
    }

    fn name(&self, at: usize) -> &Name {
        let backends = |item: &&Item| matches!(item.name, Name::Backend(_));
        match self.entries[at] {
            Entry::Backend(index) => &self.items.0[index as usize].name,
            Entry::Drop(index) => {
                let first = self.items.0.iter().filter(backends).count();
                &self.items.0[first + index as usize].name
            }
        }
    }

    /// `count` entries from `start` on, at most a round.
    fn slice(&self, start: usize, count: usize) -> Bytes {
        let len = self.len();
        let half = self.offsets[len];
        let end = start + count;
        let from = self.offsets[start];
        let to = if end <= len {
            self.offsets[end]
        } else {
            half + self.offsets[end - len]
        };
        self.doubled.slice(from as usize..to as usize)
    }
}
