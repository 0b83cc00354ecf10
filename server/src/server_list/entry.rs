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
    /// Longest entry, in bytes: a drop of 40 characters with a nonce has 55.
    pub(super) const MAX_LEN: usize = 56;

    fn new(server: Server) -> Self {
        let list = ServerList {
            servers: vec![server],
        };
        let mut bytes = [0; Self::MAX_LEN];
        let mut rest = bytes.as_mut_slice();
        list.encode(&mut rest).expect("no token is over 49 bytes");
        let len = Self::MAX_LEN - rest.remaining_mut();
        Self {
            bytes,
            len: len as u8,
        }
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Its bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }
}

/// The entry of a backend.
pub(super) fn backend(addr: BackendAddr) -> EncodedEntry {
    encode_backend(addr, Token::of(addr).as_str().to_owned())
}

/// The same with a nonce behind the token.
pub(super) fn backend_with_nonce(addr: BackendAddr, nonce: Nonce) -> EncodedEntry {
    encode_backend(
        addr,
        format!("{}.{}", Token::of(addr).as_str(), nonce.as_str()),
    )
}

/// The entry of a drop.
pub(super) fn drop(category: &DropCategory) -> EncodedEntry {
    encode_drop(category.as_str().to_owned())
}

/// The same with a nonce behind the category.
pub(super) fn drop_with_nonce(category: &DropCategory, nonce: Nonce) -> EncodedEntry {
    encode_drop(format!("{category}~{}", nonce.as_str()))
}

fn encode_backend(addr: BackendAddr, load_balance_token: String) -> EncodedEntry {
    EncodedEntry::new(Server {
        ip_address: ip_bytes(addr.ip()),
        port: i32::from(addr.port()),
        load_balance_token,
        drop: false,
    })
}

fn encode_drop(load_balance_token: String) -> EncodedEntry {
    EncodedEntry::new(Server {
        load_balance_token,
        drop: true,
        ..Server::default()
    })
}
