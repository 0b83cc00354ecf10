//! A variant's bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::Entry;
use super::entry::{self, EncodedEntry};
use super::frame::ListFrame;
use super::items::Items;
use super::order::arrange;
use crate::model::Nonce;

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
    items: Arc<Items>,
}

impl VariantList {
    /// The list in which item i stands `counts[i]` times.
    pub(super) fn new(items: &Arc<Items>, counts: &[u32]) -> Self {
        let order = arrange(counts, &items.ids, items.backends.len());
        let lens = counts.iter().zip(&items.encoded);
        let half: usize = lens
            .map(|(count, entry)| *count as usize * entry.len())
            .sum();
        let mut doubled = Vec::with_capacity(2 * half + EncodedEntry::MAX_LEN);
        let mut offsets = Vec::with_capacity(order.len() + 1);
        for item in &order {
            offsets.push(doubled.len() as u32);
            items.encoded[*item as usize].append_to(&mut doubled);
        }
        offsets.push(doubled.len() as u32);
        doubled.extend_from_within(..);
        Self {
            entries: order.into_iter().map(|item| items.entry(item)).collect(),
            offsets: offsets.into(),
            doubled: doubled.into(),
            items: Arc::clone(items),
        }
    }

    /// The round, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many entries the round has: 1 to 2000. (Beyond 30 000 backends more,
    /// for each is in one variant at least.)
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no list is empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The list as a framed `LoadBalanceResponse`, starting at entry
    /// `rotation` (any number; taken modulo the length).
    #[must_use]
    pub fn frame(&self, rotation: u64) -> ListFrame {
        ListFrame::new(self.slice(self.start(rotation), self.len()), &[])
    }

    /// The same for the first list of a stream: the token of its last entry carries
    /// `nonce`.
    #[must_use]
    pub fn first_frame(&self, rotation: u64, nonce: Nonce) -> ListFrame {
        let len = self.len();
        if len == 0 {
            return self.frame(0);
        }
        let start = self.start(rotation);
        let last = match self.entries[(start + len - 1) % len] {
            Entry::Backend(index) => {
                entry::backend(self.items.backends[index as usize], Some(nonce))
            }
            Entry::Drop(index) => entry::drop(&self.items.drops[index as usize], Some(nonce)),
        };
        ListFrame::new(self.slice(start, len - 1), last.as_slice())
    }

    fn start(&self, rotation: u64) -> usize {
        (rotation % self.len().max(1) as u64) as usize
    }

    /// `count` entries from entry `start` on; at most a round.
    fn slice(&self, start: usize, count: usize) -> Bytes {
        let len = self.len();
        let end = start + count;
        let from = self.offsets[start];
        let to = match end.checked_sub(len) {
            None => self.offsets[end],
            Some(end) => self.offsets[len] + self.offsets[end],
        };
        self.doubled.slice(from as usize..to as usize)
    }
}
