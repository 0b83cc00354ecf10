//! A variant's bytes.

use bytes::{Buf, Bytes};

use super::Entry;
use crate::model::Nonce;

/// One variant, arranged and encoded.
#[derive(Debug)]
pub struct VariantList {
    entries: Vec<Entry>,
}

impl VariantList {
    /// The round, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The list as a framed `LoadBalanceResponse`, starting at entry
    /// `rotation` (any number; taken modulo the length).
    #[must_use]
    pub fn frame(&self, rotation: u64) -> ListFrame {
        let _ = rotation;
        todo!("the list helper writes this")
    }

    /// The same for the first list of a stream: the last entry, a backend's,
    /// carries `nonce`; the rotation moves to the next that ends with one. In
    /// an all-drop list a drop's token carries it.
    #[must_use]
    pub fn first_frame(&self, rotation: u64, nonce: Nonce) -> ListFrame {
        let _ = (rotation, nonce);
        todo!("the list helper writes this")
    }
}

/// One gRPC message: a few bytes of prefix of its own, then a slice of a
/// shared buffer, then perhaps an entry of its own.
#[derive(Debug, Clone)]
pub struct ListFrame {
    shared: Bytes,
}

impl Buf for ListFrame {
    fn remaining(&self) -> usize {
        self.shared.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.shared.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.shared.advance(count);
    }
}
