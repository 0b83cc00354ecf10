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
