use bytes::Buf;
use lookaside_proto::lb_v1::load_balance_response::LoadBalanceResponseType;
use lookaside_proto::lb_v1::{LoadBalanceResponse, Server};
use prost::Message;

use super::*;
use crate::model::{DropCategory, Nonce, Token};

/// Backends 10.0.0.0:50051 and on with these weights.
fn backends(weights: &[f64]) -> Vec<ListedBackend> {
    let numbered = weights.iter().enumerate();
    numbered
        .map(|(index, weight)| {
            let ip = std::net::Ipv4Addr::from(0x0a00_0001 + index as u32);
            ListedBackend {
                addr: format!("{ip}:50051").parse().unwrap(),
                weight: *weight,
            }
        })
        .collect()
}

fn static_spec(weights: &[f64], drops: &[(&str, f64)]) -> ListSpec {
    let drops = drops.iter().map(|(name, share)| DropShare {
        category: DropCategory::new(name).unwrap(),
        share: *share,
    });
    ListSpec {
        backends: backends(weights),
        operator_weights: true,
        mean: None,
        drops: drops.collect(),
    }
}

/// What a client reads from a frame.
fn decode(mut frame: ListFrame) -> Vec<Server> {
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
fn three_to_one_is_four_entries_and_five_three_one_nine() {
    for (weights, len) in [(&[3.0, 1.0][..], 4), (&[5.0, 3.0, 1.0], 9)] {
        let lists = ServerLists::new(static_spec(weights, &[]));
        assert_eq!(lists.variant_count(), 1);
        assert_eq!(lists.variant(7).len(), len);
        let servers = decode(lists.variant(7).frame(3));
        for (backend, weight) in lists.spec().backends.iter().zip(weights) {
            let token = Token::of(backend.addr);
            let times = servers
                .iter()
                .filter(|s| s.load_balance_token == token.as_str())
                .count();
            assert_eq!(times as f64, *weight);
        }
    }
}

#[test]
fn first_list_ends_with_a_backend_that_carries_the_nonce() {
    let lists = ServerLists::new(static_spec(&[3.0, 1.0], &[("maintenance", 0.25)]));
    let list = lists.variant(0);
    assert_eq!(list.len(), 16);
    for rotation in 0..40 {
        let servers = decode(list.first_frame(rotation, Nonce::from_bits(7)));
        assert_eq!(servers.len(), 16);
        assert_eq!(servers.iter().filter(|server| server.drop).count(), 4);
        let last = servers.last().unwrap();
        assert!(!last.drop);
        assert_eq!(last.load_balance_token.len(), 17);
    }
}
