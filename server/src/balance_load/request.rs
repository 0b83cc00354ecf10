//! What a client sends: DATA to messages.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use flate2::read::{GzDecoder, ZlibDecoder};
use lookaside_proto::frame::{FrameError, MessageReader};
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::{ClientStats, LoadBalanceRequest};
use prost::Message as _;

/// Longest message a client may send, in bytes, also after decompression.
pub const MAX_REQUEST: usize = 64 * 1024;

/// How a client compresses messages: its `grpc-encoding`. grpclb clients do not,
/// unless the program set a default for all its calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, which gRPC means by "deflate".
    Deflate,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// `initial_request`: the name it asks for, as it came.
    Initial(String),
    /// `client_stats`.
    Stats(ClientStats),
    /// Something that is neither.
    Malformed(Malformed),
}

/// Why a message cannot be understood. The ones after it can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is marked as compressed, but no `grpc-encoding` says how.
    #[error("a message is marked as compressed, but no grpc-encoding is set")]
    NoEncoding,
    /// It does not decompress.
    #[error("a message does not decompress: {0}")]
    Compression(String),
    /// It is longer than [`MAX_REQUEST`], decompressed.
    #[error("a message has more than {MAX_REQUEST} bytes when decompressed")]
    TooLong,
    /// It is no `LoadBalanceRequest`.
    #[error("a message is no grpc.lb.v1.LoadBalanceRequest: {0}")]
    Protobuf(String),
    /// It is a `LoadBalanceRequest` without content.
    #[error("a LoadBalanceRequest has neither initial_request nor client_stats")]
    Empty,
}

/// Turns the DATA of a request into messages. Holds no buffer between messages.
#[derive(Debug)]
pub struct RequestReader {
    frames: MessageReader,
    encoding: Encoding,
}

impl RequestReader {
    /// A reader for a client that compresses by `encoding`.
    #[must_use]
    pub fn new(encoding: Encoding) -> Self {
        Self {
            frames: MessageReader::new(MAX_REQUEST),
            encoding,
        }
    }

    /// Takes the next DATA.
    pub fn push(&mut self, data: impl Buf) {
        self.frames.push(data);
    }

    /// The next whole message, or `None` until more data has come.
    ///
    /// # Errors
    /// If what came is not gRPC's framing or a message is too long. Then it is
    /// not known where the next message begins, and every further call fails.
    pub fn next_message(&mut self) -> Result<Option<Message>, FrameError> {
        let Some(raw) = self.frames.next_message()? else {
            return Ok(None);
        };
        let plain = if raw.compressed {
            self.encoding.decompress(&raw.bytes)
        } else {
            Ok(raw.bytes)
        };
        let message = plain.and_then(decode);
        Ok(Some(message.unwrap_or_else(Message::Malformed)))
    }
}

impl Encoding {
    /// Every encoding, as `grpc-accept-encoding` lists them.
    pub const ACCEPTED: &str = "identity,gzip,deflate";

    /// The encoding that a `grpc-encoding` names.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"identity" => Some(Self::Identity),
            b"gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    fn decompress(self, compressed: &[u8]) -> Result<Bytes, Malformed> {
        match self {
            Self::Identity => Err(Malformed::NoEncoding),
            Self::Gzip => read_limited(GzDecoder::new(compressed)),
            Self::Deflate => read_limited(ZlibDecoder::new(compressed)),
        }
    }
}

fn read_limited(decoder: impl Read) -> Result<Bytes, Malformed> {
    let mut plain = Vec::new();
    let mut limited = decoder.take(MAX_REQUEST as u64 + 1);
    let read = limited.read_to_end(&mut plain);
    read.map_err(|error: io::Error| Malformed::Compression(error.to_string()))?;
    if plain.len() > MAX_REQUEST {
        return Err(Malformed::TooLong);
    }
    Ok(plain.into())
}

fn decode(bytes: Bytes) -> Result<Message, Malformed> {
    let request = LoadBalanceRequest::decode(bytes)
        .map_err(|error| Malformed::Protobuf(error.to_string()))?;
    match request.load_balance_request_type {
        Some(LoadBalanceRequestType::InitialRequest(initial)) => Ok(Message::Initial(initial.name)),
        Some(LoadBalanceRequestType::ClientStats(stats)) => Ok(Message::Stats(stats)),
        None => Err(Malformed::Empty),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use lookaside_proto::frame;
    use lookaside_proto::lb_v1::InitialLoadBalanceRequest;
    use proptest::prelude::*;

    use super::*;

    fn initial(name: &str) -> Vec<u8> {
        let name = name.to_owned();
        LoadBalanceRequest {
            load_balance_request_type: Some(LoadBalanceRequestType::InitialRequest(
                InitialLoadBalanceRequest { name },
            )),
        }
        .encode_to_vec()
    }

    fn compress(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Identity => plain.to_vec(),
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn encodings() -> impl Strategy<Value = Encoding> {
        prop_oneof![
            Just(Encoding::Identity),
            Just(Encoding::Gzip),
            Just(Encoding::Deflate)
        ]
    }

    proptest! {
        #[test]
        fn requests_survive_any_encoding_and_cut(
            names in proptest::collection::vec("[a-z]{0,40}", 1..5),
            encoding in encodings(),
            cut in 1usize..20,
        ) {
            let mut wire = Vec::new();
            for name in &names {
                let message = compress(encoding, &initial(name));
                let [_, a, b, c, d] = frame::header(u32::try_from(message.len()).unwrap());
                let flag = u8::from(encoding != Encoding::Identity);
                wire.extend([flag, a, b, c, d]);
                wire.extend(message);
            }
            let mut reader = RequestReader::new(encoding);
            let mut read = Vec::new();
            for data in wire.chunks(cut) {
                reader.push(data);
                while let Some(message) = reader.next_message().unwrap() {
                    read.push(message);
                }
            }
            let sent: Vec<Message> = names.into_iter().map(Message::Initial).collect();
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn no_bytes_panic(
            flag in 0u8..3,
            message: Vec<u8>,
            rest: Vec<u8>,
            encoding in encodings(),
        ) {
            let mut reader = RequestReader::new(encoding);
            let [_, a, b, c, d] = frame::header(u32::try_from(message.len()).unwrap());
            reader.push([flag, a, b, c, d].as_slice());
            reader.push(message.as_slice());
            reader.push(rest.as_slice());
            while let Ok(Some(_)) = reader.next_message() {}
        }
    }

    #[test]
    fn a_message_just_short_enough_is_read_whole() {
        // Tag and length take four bytes each, of the request and of the name.
        let fits = initial(&"a".repeat(MAX_REQUEST - 8));
        assert_eq!(fits.len(), MAX_REQUEST);
        for (more, ok) in [(0, true), (1, false)] {
            let plain = initial(&"a".repeat(MAX_REQUEST - 8 + more));
            let bytes = compress(Encoding::Gzip, &plain);
            let read = Encoding::Gzip.decompress(&bytes);
            assert_eq!(read.is_ok(), ok, "{read:?}");
        }
    }
}
