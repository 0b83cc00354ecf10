//! What lists promise as clients read them off the wire.

use bytes::Buf;
use lookaside_proto::addr::socket_addr;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::{LoadBalanceResponse, Server};
use proptest::prelude::*;
use prost::Message;

use super::super::*;
use super::{any_spec, counts, spec};
use crate::model::{Nonce, Token};

/// What a client reads from a frame.
pub(super) fn decode(mut frame: ListFrame) -> Vec<Server> {
    let mut wire = frame.copy_to_bytes(frame.remaining());
    assert!(!frame.has_remaining());
    assert_eq!(wire.get_u8(), 0, "not compressed");
    assert_eq!(wire.get_u32() as usize, wire.remaining());
    let response = LoadBalanceResponse::decode(wire).unwrap();
    match response.load_balance_response_type {
        Some(LoadBalanceResponseType::ServerList(list)) => list.servers,
        other => panic!("no server list: {other:?}"),
    }
}

#[test]
fn all_calls_dropped_is_a_list_of_drops_with_a_nonce() {
    let lists = ServerLists::new(spec(&[3.0, 1.0], &[0.9, 0.1]));
    let list = lists.variant(3);
    assert_eq!(counts(&lists, list), (vec![0, 0], vec![9, 1]));
    let nonce = Nonce::from_bits(42);
    for rotation in 0..10 {
        let servers = decode(list.first_frame(rotation, nonce));
        assert!(
            servers
                .iter()
                .all(|server| server.drop && server.ip_address.is_empty())
        );
        let token = &servers.last().unwrap().load_balance_token;
        let (category, rest) = token.split_once('~').unwrap();
        assert!(category.starts_with("category "));
        assert_eq!(rest, nonce.as_str());
    }
}

proptest! {
    #[test]
    fn a_frame_is_the_list_from_its_rotation_on(spec in any_spec(), ordinal: u64, rotation: u64) {
        let lists = ServerLists::new(spec);
        let list = lists.variant(ordinal);
        let servers = decode(list.frame(rotation));
        let mut entries = list.entries().to_vec();
        let len = entries.len() as u64;
        entries.rotate_left((rotation % len) as usize);
        prop_assert_eq!(servers.len(), entries.len());
        for (server, entry) in servers.iter().zip(entries) {
            match entry {
                Entry::Backend(index) => {
                    let addr = lists.spec().backends[index as usize].addr;
                    prop_assert_eq!(socket_addr(server), Ok(addr.socket_addr()));
                    let token = Token::of(addr);
                    prop_assert_eq!(server.load_balance_token.as_str(), token.as_str());
                    prop_assert!(!server.drop);
                }
                Entry::Drop(index) => {
                    let category = &lists.spec().drops[index as usize].category;
                    prop_assert_eq!(server.load_balance_token.as_str(), category.as_str());
                    prop_assert!(server.drop && server.ip_address.is_empty() && server.port == 0);
                }
            }
        }
    }

    #[test]
    fn a_first_list_differs_in_its_last_token_only(spec in any_spec(), rotation: u64, bits: u64) {
        let lists = ServerLists::new(spec);
        let list = lists.variant(0);
        let nonce = Nonce::from_bits(bits);
        let mut first = decode(list.first_frame(rotation, nonce));
        for server in &first {
            let token = &server.load_balance_token;
            prop_assert!((1..=49).contains(&token.len()));
            prop_assert!(token.bytes().all(|byte| matches!(byte, 0x20..=0x7e)));
        }

        let last = first.last_mut().unwrap();
        let separator = if last.drop { '~' } else { '.' };
        let suffix = format!("{separator}{}", nonce.as_str());
        let token = last.load_balance_token.strip_suffix(&suffix).map(str::to_owned);
        last.load_balance_token = token.unwrap();
        prop_assert_eq!(first, decode(list.frame(rotation)));
    }
}
