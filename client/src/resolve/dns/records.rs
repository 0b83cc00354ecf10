//! What DNS has, and for how long that holds.

use std::time::Duration;

/// Records of one kind; none is an answer too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Records<T> {
    pub(super) list: Vec<T>,
    /// How long they may be kept; `None` if nobody says.
    pub(super) ttl: Option<Duration>,
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self::without_ttl(vec![])
    }
}

impl<T> Records<T> {
    pub(super) fn without_ttl(list: Vec<T>) -> Self {
        Self { list, ttl: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// These and those, for as long as both hold.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.list.extend(other.list);
        self.ttl = shorter(self.ttl, other.ttl);
        self
    }

    pub(super) fn filter_map<U>(self, f: impl FnMut(T) -> Option<U>) -> Records<U> {
        Records {
            list: self.list.into_iter().filter_map(f).collect(),
            ttl: self.ttl,
        }
    }
}

/// The shorter one of those that are known.
pub(super) fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    [a, b].into_iter().flatten().min()
}
