//! A list on its way down a stream.

use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lookaside_proto::frame::{self, HEADER_LEN};

use super::entry::EncodedEntry;

/// Field 2 of `LoadBalanceResponse`, `server_list`, with a length in front.
const SERVER_LIST_TAG: u8 = 0x12;

/// Header, tag, and a length of at most five bytes.
const PREFIX_LEN: usize = HEADER_LEN + 1 + 5;

/// One gRPC message, a `LoadBalanceResponse` with a server list: a few bytes of
/// prefix of its own, then a slice of the buffer that all streams share, then
/// perhaps an entry of its own. To make or clone one copies no list and
/// allocates nothing.
#[derive(Debug, Clone)]
pub struct ListFrame {
    prefix: Inline<PREFIX_LEN>,
    shared: Bytes,
    last: Inline<{ EncodedEntry::MAX_LEN }>,
}

/// A few bytes that are read from the front.
#[derive(Debug, Clone)]
struct Inline<const N: usize> {
    bytes: [u8; N],
    at: u8,
    end: u8,
}

impl ListFrame {
    /// The message whose `ServerList` encodes to `shared` and `last`.
    pub(super) fn new(shared: Bytes, last: &[u8]) -> Self {
        let list = (shared.len() + last.len()) as u32;
        let mut message: Inline<PREFIX_LEN> = Inline::new(&[SERVER_LIST_TAG]);
        message.push_varint(list);
        let len = message.unread().len() as u32 + list;
        let mut prefix = Inline::new(&frame::header(len));
        prefix.push(message.unread());
        Self {
            prefix,
            shared,
            last: Inline::new(last),
        }
    }
}

impl Buf for ListFrame {
    fn remaining(&self) -> usize {
        self.prefix.unread().len() + self.shared.len() + self.last.unread().len()
    }

    fn chunk(&self) -> &[u8] {
        let parts = [self.prefix.unread(), &self.shared, self.last.unread()];
        parts
            .into_iter()
            .find(|part| !part.is_empty())
            .unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        let count = count - self.prefix.advance(count);
        let shared = count.min(self.shared.len());
        self.shared.advance(shared);
        let last = self.last.advance(count - shared);
        assert_eq!(count, shared + last, "advanced past the end of a list");
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = [self.prefix.unread(), &self.shared, self.last.unread()];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        if self.prefix.unread().is_empty() && len <= self.shared.len() {
            return self.shared.split_to(len);
        }
        let mut copy = BytesMut::with_capacity(len);
        copy.put(self.take(len));
        copy.freeze()
    }
}

impl<const N: usize> Inline<N> {
    fn new(content: &[u8]) -> Self {
        let mut inline = Self {
            bytes: [0; N],
            at: 0,
            end: 0,
        };
        inline.push(content);
        inline
    }

    fn push(&mut self, content: &[u8]) {
        let end = usize::from(self.end);
        self.bytes[end..end + content.len()].copy_from_slice(content);
        self.end += content.len() as u8;
    }

    fn push_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.push(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.push(&[value as u8]);
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[usize::from(self.at)..usize::from(self.end)]
    }

    /// Skips `count` bytes or all that are left; returns how many.
    fn advance(&mut self, count: usize) -> usize {
        let count = count.min(self.unread().len());
        self.at += count as u8;
        count
    }
}
