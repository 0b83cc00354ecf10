//! gRPC's message framing: one byte of flags, four of length, then the message
//! (gRPC over HTTP/2, "Length-Prefixed-Message").
//!
//! tonic's codec frames each message into a buffer of the stream it goes to.
//! A balancer sends the same list to thousands of streams, so it frames bytes
//! that all of them share, with [`header`]; and it reads requests with
//! [`MessageReader`], which holds no buffer while there is nothing to read.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// Length of the prefix in front of every message.
pub const HEADER_LEN: usize = 5;

/// The prefix of an uncompressed message of `len` bytes.
#[must_use]
pub fn header(len: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = len.to_be_bytes();
    [0, a, b, c, d]
}

/// One message, framed and not compressed.
///
/// # Panics
/// If the message encodes to 4 GiB or more, which gRPC cannot carry.
#[must_use]
pub fn encode(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut frame = BytesMut::with_capacity(HEADER_LEN + len);
    let prefix = u32::try_from(len).expect("gRPC messages are under 4 GiB");
    frame.put_slice(&header(prefix));
    frame.put(message.encode_to_vec().as_slice());
    frame.freeze()
}

/// Why a byte stream stopped being gRPC messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte of a prefix is neither 0 nor 1.
    #[error("flag byte {0} in front of a message; gRPC knows 0 (plain) and 1 (compressed)")]
    Flag(u8),
    /// The message is longer than the reader takes.
    #[error("message of {len} bytes; at most {max} are taken here")]
    TooLong {
        /// Length in the prefix.
        len: usize,
        /// The reader's limit.
        max: usize,
    },
}

/// A message as it came, before decompression and decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// Whether the bytes are compressed by the stream's `grpc-encoding`.
    pub compressed: bool,
    /// The bytes of the message.
    pub bytes: Bytes,
}

/// Cuts the DATA of a stream into messages.
///
/// After an error the position in the stream is lost: every further call gives
/// the same error.
#[derive(Debug)]
pub struct MessageReader {
    pending: BytesMut,
    max: usize,
    failed: Option<FrameError>,
}

impl MessageReader {
    /// A reader that takes messages of at most `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            pending: BytesMut::new(),
            max,
            failed: None,
        }
    }

    /// Takes the next DATA of the stream.
    pub fn push(&mut self, mut data: impl Buf) {
        if self.failed.is_none() {
            self.pending.put(&mut data);
        }
    }

    /// The next whole message, or `None` until more data has come.
    ///
    /// # Errors
    /// [`FrameError`] if what came is not gRPC framing, or a message is too long;
    /// a length is judged as soon as its prefix is there.
    pub fn next_message(&mut self) -> Result<Option<RawMessage>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some(&[flag, a, b, c, d]) = self.pending.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag > 1 {
            return Err(self.fail(FrameError::Flag(flag)));
        }
        if len > self.max {
            return Err(self.fail(FrameError::TooLong { len, max: self.max }));
        }
        if self.pending.len() < HEADER_LEN + len {
            return Ok(None);
        }
        self.pending.advance(HEADER_LEN);
        let bytes = self.pending.split_to(len).freeze();
        if self.pending.is_empty() {
            // An idle stream should not hold on to its last read.
            self.pending = BytesMut::new();
        }
        Ok(Some(RawMessage {
            compressed: flag == 1,
            bytes,
        }))
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.failed = Some(error);
        self.pending = BytesMut::new();
        error
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lb_v1::InitialLoadBalanceRequest;

    proptest! {
        #[test]
        fn messages_survive_any_cut(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            cut in 1usize..13,
        ) {
            let mut wire = Vec::new();
            for body in &bodies {
                wire.extend(header(u32::try_from(body.len()).unwrap()));
                wire.extend(body);
            }
            let mut reader = MessageReader::new(64);
            let mut seen = Vec::new();
            for chunk in wire.chunks(cut) {
                reader.push(chunk);
                while let Some(message) = reader.next_message().unwrap() {
                    prop_assert!(!message.compressed);
                    seen.push(message.bytes.to_vec());
                }
            }
            prop_assert_eq!(seen, bodies);
        }

        #[test]
        fn garbage_never_panics(wire: Vec<u8>) {
            let mut reader = MessageReader::new(1 << 16);
            reader.push(wire.as_slice());
            while let Ok(Some(_)) = reader.next_message() {}
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_the_message_comes() {
        let mut reader = MessageReader::new(10);
        reader.push(header(11).as_slice());
        let error = FrameError::TooLong { len: 11, max: 10 };
        assert_eq!(reader.next_message(), Err(error));
        reader.push([0u8, 0, 0, 0, 0].as_slice());
        assert_eq!(reader.next_message(), Err(error));
    }

    #[test]
    fn encoded_messages_read_back() {
        let request = InitialLoadBalanceRequest {
            name: "greeter".into(),
        };
        let mut reader = MessageReader::new(100);
        reader.push(encode(&request));
        let raw = reader.next_message().unwrap().unwrap();
        let back = InitialLoadBalanceRequest::decode(raw.bytes).unwrap();
        assert_eq!(back, request);
    }
}
