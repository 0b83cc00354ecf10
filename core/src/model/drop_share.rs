//! Calls that clients are told to drop.

use std::fmt;
use std::sync::Arc;

/// Name of a reason to drop calls: 1 to 40 printable ASCII characters without
/// `~`, which separates it from a nonce in a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DropCategory(Arc<str>);

/// Why a text is no [`DropCategory`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("drop category `{0}` is not 1 to 40 printable ASCII characters without `~`")]
pub struct BadDropCategory(pub String);

/// A share of all calls to drop, for one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct DropShare {
    /// The reason.
    pub category: DropCategory,
    /// Share of all calls, above 0 and at most 1.
    pub share: f64,
}

/// Why a number is no share of calls.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "drop share {0} is out of range; write a number above 0 and at most 1 (0.05 is 5 % of all calls)"
)]
pub struct BadDropShare(pub f64);

impl DropCategory {
    /// Longest name, in bytes.
    pub const MAX_LEN: usize = 40;

    /// A category.
    ///
    /// # Errors
    /// If the text is empty, too long, or has other characters.
    pub fn new(name: &str) -> Result<Self, BadDropCategory> {
        let printable = name.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'~');
        if name.is_empty() || name.len() > Self::MAX_LEN || !printable {
            return Err(BadDropCategory(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DropCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl DropShare {
    /// A share of all calls for one reason. A share of 0 is no drop, and the
    /// caller leaves it out.
    ///
    /// # Errors
    /// If the share is not above 0 and at most 1.
    pub fn new(category: DropCategory, share: f64) -> Result<Self, BadDropShare> {
        if share > 0.0 && share <= 1.0 {
            Ok(Self { category, share })
        } else {
            Err(BadDropShare(share))
        }
    }
}
