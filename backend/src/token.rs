//! The token that an RPC carries, as a lookaside balancer writes it.
//!
//! `<id>` or `<id>.<nonce>`, eight characters of base64url each. The id stands for
//! the backend's address and is the same on every replica of the balancer, in
//! every list. The nonce, if there is one, is that of the stream whose first list
//! had the entry; clients may keep sending a token long after a newer list, so it
//! says nothing about how fresh the client's list is.

use std::fmt;

use lookaside_proto::lb_v1::LB_TOKEN_KEY;
use tonic::metadata::MetadataMap;

/// Characters of an id, and of a nonce.
const LEN: usize = 8;

/// A load balance token, taken apart.
///
/// Whoever can reach the backend can make one up: it is good for statistics, not
/// for trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LbToken {
    id: [u8; LEN],
    nonce: Option<[u8; LEN]>,
}

/// The token that came with an RPC. `None` if there is none, or one that is not a
/// lookaside balancer's: RPCs come from clients without a balancer too, and from
/// those in fallback.
#[must_use]
pub fn lb_token(metadata: &MetadataMap) -> Option<LbToken> {
    LbToken::parse(metadata.get(LB_TOKEN_KEY)?.as_encoded_bytes())
}

impl LbToken {
    /// Takes a token apart. `None` if it is not of the form above.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (id, rest) = text.split_at_checked(LEN)?;
        let nonce = match rest {
            [] => None,
            [b'.', nonce @ ..] => Some(base64url(nonce)?),
            _ => return None,
        };
        Some(Self {
            id: base64url(id)?,
            nonce,
        })
    }

    /// Which entry: eight characters, the same for an address on every replica.
    #[must_use]
    pub fn id(&self) -> &str {
        as_str(&self.id)
    }

    /// Of which stream the list was the first, if it was a first one.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_ref().map(as_str)
    }
}

impl fmt::Display for LbToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())?;
        match self.nonce() {
            Some(nonce) => write!(f, ".{nonce}"),
            None => Ok(()),
        }
    }
}

fn base64url(text: &[u8]) -> Option<[u8; LEN]> {
    let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let text: [u8; LEN] = text.try_into().ok()?;
    text.iter().all(good).then_some(text)
}

fn as_str(text: &[u8; LEN]) -> &str {
    // It was checked to be ASCII.
    std::str::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<String> {
        LbToken::parse(text.as_bytes()).map(|token| token.to_string())
    }

    #[test]
    fn tokens_with_and_without_nonce() {
        for good in ["AbCd-_09", "AbCd-_09.12345678"] {
            assert_eq!(parse(good).as_deref(), Some(good));
        }
    }

    #[test]
    fn what_no_lookaside_balancer_writes_is_no_token() {
        for bad in [
            "",
            "short",
            "AbCd-_09.",
            "AbCd-_09.short",
            "AbCd-_09x12345678",
            "AbCd-_09.123456789",
            "AbCd/+09",
            "grün1234",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn metadata_without_a_token_has_none() {
        assert_eq!(lb_token(&MetadataMap::new()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(token) = LbToken::parse(&bytes) {
                prop_assert_eq!(token.to_string().into_bytes(), bytes);
            }
        }
    }
}
