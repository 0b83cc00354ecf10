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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(shared: &[u8], last: &[u8]) -> ListFrame {
        ListFrame::new(Bytes::copy_from_slice(shared), last)
    }

    fn whole(mut frame: ListFrame) -> Bytes {
        frame.copy_to_bytes(frame.remaining())
    }

    #[test]
    fn a_frame_is_header_tag_length_and_list() {
        let mut wire = vec![0, 0, 0, 0, 6, 0x12, 4];
        wire.extend(b"abcd");
        assert_eq!(whole(frame(b"abc", b"d")), wire);
        let long = whole(frame(&[7; 300], &[]));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x12, 0xac, 2]);
    }

    #[test]
    fn what_is_shared_is_not_copied() {
        let shared = Bytes::from(vec![1; 100]);
        let mut frame = ListFrame::new(shared.clone(), &[]);
        frame.advance(7);
        assert_eq!(frame.copy_to_bytes(100).as_ptr(), shared.as_ptr());
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn nothing_is_behind_the_end() {
        frame(b"abc", b"d").advance(12);
    }

    proptest! {
        #[test]
        fn a_frame_reads_the_same_in_any_pieces(
            shared in proptest::collection::vec(any::<u8>(), 0..200),
            last in proptest::collection::vec(any::<u8>(), 0..55),
            steps in proptest::collection::vec(1usize..60, 1..20),
        ) {
            let wire = whole(frame(&shared, &last));
            let mut frame = frame(&shared, &last);
            let mut read = 0;
            for step in steps.iter().cycle() {
                prop_assert_eq!(frame.remaining(), wire.len() - read);
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = frame.chunks_vectored(&mut slices);
                let gathered: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
                prop_assert_eq!(&gathered, &wire[read..]);
                if !frame.has_remaining() {
                    break;
                }
                prop_assert!(!frame.chunk().is_empty());
                let step = *step.min(&frame.remaining());
                if step % 2 == 0 {
                    frame.advance(step);
                } else {
                    prop_assert_eq!(&frame.copy_to_bytes(step), &wire[read..read + step]);
                }
                read += step;
            }
        }
    }
}
