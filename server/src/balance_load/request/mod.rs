//! What a client sends: DATA to messages.

mod encoding;
mod entries;

#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes};
use lookaside_proto::frame::{FrameError, MessageReader, RawMessage};
use lookaside_proto::lb_v1::load_balance_request::LoadBalanceRequestType;
use lookaside_proto::lb_v1::{ClientStats, LoadBalanceRequest};
use prost::Message as _;

pub use self::encoding::Encoding;
pub use self::entries::MAX_ENTRIES;

/// Longest message a client may send, in bytes, also after decompression.
pub const MAX_REQUEST: usize = 64 * 1024;

/// What reading any message costs, in the unit of a decoded byte.
const EACH_MESSAGE: u64 = 32;

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
    /// It is longer than a message of its length may be when decompressed, at most
    /// [`MAX_REQUEST`].
    #[error("a message has more than {0} bytes when decompressed")]
    TooLong(usize),
    /// Its `client_stats` have more entries than [`MAX_ENTRIES`].
    #[error(
        "client_stats have {0} entries in calls_finished_with_drop; at most {MAX_ENTRIES} are read"
    )]
    TooManyEntries(usize),
    /// It is no `LoadBalanceRequest`.
    #[error("a message is no grpc.lb.v1.LoadBalanceRequest: {0}")]
    Protobuf(String),
    /// It is a `LoadBalanceRequest` without content.
    #[error("a LoadBalanceRequest has neither initial_request nor client_stats")]
    Empty,
}

/// A message as it came.
#[derive(Debug)]
pub(super) struct Unread(RawMessage);

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
        let unread = self.next_unread()?;
        Ok(unread.map(|unread| self.read(unread)))
    }

    /// The next whole message, before anything is done to understand it.
    ///
    /// # Errors
    /// As [`Self::next_message`].
    pub(super) fn next_unread(&mut self) -> Result<Option<Unread>, FrameError> {
        Ok(self.frames.next_message()?.map(Unread))
    }

    /// What [`Self::read`] costs for this message at most, in the unit of a decoded
    /// byte.
    pub(super) fn cost(&self, unread: &Unread) -> u64 {
        let RawMessage { compressed, bytes } = &unread.0;
        let decoded = if *compressed {
            self.encoding.cost(bytes.len())
        } else {
            bytes.len() as u64
        };
        EACH_MESSAGE + decoded
    }

    /// Reads a message.
    pub(super) fn read(&self, unread: Unread) -> Message {
        let RawMessage { compressed, bytes } = unread.0;
        let plain = if compressed {
            self.encoding.decompress(&bytes)
        } else {
            Ok(bytes)
        };
        plain.and_then(decode).unwrap_or_else(Message::Malformed)
    }
}

fn decode(bytes: Bytes) -> Result<Message, Malformed> {
    let entries = entries::count(bytes.clone());
    if entries > MAX_ENTRIES {
        return Err(Malformed::TooManyEntries(entries));
    }
    let request = LoadBalanceRequest::decode(bytes)
        .map_err(|error| Malformed::Protobuf(error.to_string()))?;
    match request.load_balance_request_type {
        Some(LoadBalanceRequestType::InitialRequest(initial)) => Ok(Message::Initial(initial.name)),
        Some(LoadBalanceRequestType::ClientStats(stats)) => Ok(Message::Stats(stats)),
        None => Err(Malformed::Empty),
    }
}
