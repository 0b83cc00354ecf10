//! One entry's bytes.

use bytes::BufMut;
use lookaside_proto::addr::ip_bytes;
use lookaside_proto::lb_v1::{Server, ServerList};
use prost::Message;

use crate::model::{BackendAddr, DropCategory, Nonce, Token};

/// An entry as it stands in an encoded `ServerList`, tag and length included.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncodedEntry {
    bytes: [u8; Self::MAX_LEN],
    len: u8,
}

impl EncodedEntry {
    /// Longest entry, in bytes: a drop with a token of 49.
    pub(super) const MAX_LEN: usize = 2 + 2 + 49 + 2;

    fn new(server: Server) -> Self {
        // A list of one entry is encoded as that entry.
        let list = ServerList {
            servers: vec![server],
        };
        let mut bytes = [0; Self::MAX_LEN];
        let mut rest = bytes.as_mut_slice();
        list.encode(&mut rest)
            .expect("categories and nonces are short");
        let len = (Self::MAX_LEN - rest.remaining_mut()) as u8;
        Self { bytes, len }
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Its bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// Writes it behind `list`.
    pub(super) fn append_to(&self, list: &mut Vec<u8>) {
        // To copy a fixed number of bytes and cut is several times faster than
        // to copy as many as there are.
        let end = list.len() + self.len();
        list.extend_from_slice(&self.bytes);
        list.truncate(end);
    }
}

/// The entry of a backend: its token, and behind a dot the nonce.
pub(super) fn backend(addr: BackendAddr, nonce: Option<Nonce>) -> EncodedEntry {
    EncodedEntry::new(Server {
        ip_address: ip_bytes(addr.ip()),
        port: i32::from(addr.port()),
        load_balance_token: token(Token::of(addr).as_str(), '.', nonce),
        drop: false,
    })
}

/// The entry of a drop: its category, and behind a tilde the nonce.
pub(super) fn drop(category: &DropCategory, nonce: Option<Nonce>) -> EncodedEntry {
    EncodedEntry::new(Server {
        load_balance_token: token(category.as_str(), '~', nonce),
        drop: true,
        ..Server::default()
    })
}

fn token(name: &str, separator: char, nonce: Option<Nonce>) -> String {
    match nonce {
        None => name.to_owned(),
        Some(nonce) => format!("{name}{separator}{}", nonce.as_str()),
    }
}
