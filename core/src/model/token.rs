//! Load balance tokens: what a client sends along with each call, and what
//! names a drop in its statistics.
//!
//! A backend's token is `base64url(hash48(ip:port))`, 8 characters, the same on
//! every replica and in every list, so that lists can be shared. Behind it may
//! stand a [`Nonce`]: `.` and 8 characters. The token of a drop entry is its
//! category, with a nonce `category~nonce`. Tokens are printable ASCII
//! of at most 49 bytes (C-core has room for no more) and carry no secret:
//! backends and logs see them.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use super::BackendAddr;

/// Token of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; Self::LEN]);

/// Makes the first list of a stream differ from every list before it: C-core
/// takes no notice of a list that equals the one it has, not even to leave
/// fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce([u8; Self::LEN]);

impl Token {
    /// Bytes of a token.
    pub const LEN: usize = 8;

    /// The token of a backend.
    #[must_use]
    pub fn of(addr: BackendAddr) -> Self {
        Self(base64_48(hash(addr)))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Nonce {
    /// Characters of a nonce.
    pub const LEN: usize = 8;

    /// The nonce for 48 random bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(base64_48(bits))
    }

    /// As text, without the separator in front.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A stable 64-bit hash of an address; the lists' order is made of it, and
/// [`Token`] of its low 48 bits.
#[must_use]
pub(crate) fn hash(addr: BackendAddr) -> u64 {
    let mut bytes = [0u8; 18];
    match addr.ip() {
        IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes[..16].copy_from_slice(&v6.octets()),
    }
    bytes[16..].copy_from_slice(&addr.port().to_be_bytes());
    xxh3_64(&bytes)
}

fn base64_48(bits: u64) -> [u8; 8] {
    let [.., a, b, c, d, e, f] = bits.to_be_bytes();
    let mut text = [0; 8];
    // Six bytes are exactly eight characters, without padding.
    let written = URL_SAFE_NO_PAD.encode_slice([a, b, c, d, e, f], &mut text);
    debug_assert_eq!(written, Ok(8));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_everywhere_and_ever() {
        let token = Token::of("10.0.1.1:50051".parse().unwrap());
        assert_eq!(token, Token::of("[::ffff:10.0.1.1]:50051".parse().unwrap()));
        assert_ne!(token, Token::of("10.0.1.1:50052".parse().unwrap()));
        assert_eq!(token.as_str().len(), Token::LEN);
        assert!(token.as_str().bytes().all(|b| b.is_ascii_graphic()));
    }

    #[test]
    fn every_bit_of_a_nonce_counts() {
        let zero = Nonce::from_bits(0);
        for bit in 0..48 {
            assert_ne!(zero, Nonce::from_bits(1 << bit));
        }
    }
}
