//! How clients compress messages.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};

use super::{MAX_REQUEST, Malformed};

/// A message may decompress to this many bytes, however short it is.
const ANY_RATIO: usize = 4096;

/// And to this many times its length. Statistics compress to a tenth or so; what
/// compresses better is made to cost more to read than to send.
const RATIO: usize = 32;

/// What it costs to begin decompressing, in the unit of a decoded byte.
const BEGIN: u64 = 2048;

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

    /// What [`Self::decompress`] and what follows it cost at most for `len` bytes.
    pub(super) fn cost(self, len: usize) -> u64 {
        match self {
            Self::Identity => 0,
            Self::Gzip | Self::Deflate => BEGIN + (len + most(len)) as u64,
        }
    }

    pub(super) fn decompress(self, compressed: &[u8]) -> Result<Bytes, Malformed> {
        let most = most(compressed.len());
        match self {
            Self::Identity => Err(Malformed::NoEncoding),
            Self::Gzip => read_limited(GzDecoder::new(compressed), most),
            Self::Deflate => read_limited(ZlibDecoder::new(compressed), most),
        }
    }
}

/// Bytes that `len` bytes may decompress to.
fn most(len: usize) -> usize {
    len.saturating_mul(RATIO).clamp(ANY_RATIO, MAX_REQUEST)
}

fn read_limited(decoder: impl Read, most: usize) -> Result<Bytes, Malformed> {
    let mut plain = Vec::new();
    let mut limited = decoder.take(most as u64 + 1);
    let read = limited.read_to_end(&mut plain);
    read.map_err(|error: io::Error| Malformed::Compression(error.to_string()))?;
    if plain.len() > most {
        return Err(Malformed::TooLong(most));
    }
    Ok(plain.into())
}
