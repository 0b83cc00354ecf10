//! Requests in any encoding, whole or not.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use lookaside_proto::frame;
use lookaside_proto::lb_v1::{ClientStatsPerToken, InitialLoadBalanceRequest};
use proptest::prelude::*;

use super::*;

fn initial(name: &str) -> Vec<u8> {
    let name = name.to_owned();
    LoadBalanceRequest {
        load_balance_request_type: Some(LoadBalanceRequestType::InitialRequest(
            InitialLoadBalanceRequest { name },
        )),
    }
    .encode_to_vec()
}

fn compress(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => plain.to_vec(),
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
    }
}

fn encodings() -> impl Strategy<Value = Encoding> {
    prop_oneof![
        Just(Encoding::Identity),
        Just(Encoding::Gzip),
        Just(Encoding::Deflate)
    ]
}

proptest! {
    #[test]
    fn requests_survive_any_encoding_and_cut(
        names in proptest::collection::vec("[a-z]{0,40}", 1..5),
        encoding in encodings(),
        cut in 1usize..20,
    ) {
        let mut wire = Vec::new();
        for name in &names {
            let message = compress(encoding, &initial(name));
            let [_, a, b, c, d] = frame::header(u32::try_from(message.len()).unwrap());
            let flag = u8::from(encoding != Encoding::Identity);
            wire.extend([flag, a, b, c, d]);
            wire.extend(message);
        }
        let mut reader = RequestReader::new(encoding);
        let mut read = Vec::new();
        for data in wire.chunks(cut) {
            reader.push(data);
            while let Some(message) = reader.next_message().unwrap() {
                read.push(message);
            }
        }
        let sent: Vec<Message> = names.into_iter().map(Message::Initial).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn no_bytes_panic(
        flag in 0u8..3,
        message: Vec<u8>,
        rest: Vec<u8>,
        encoding in encodings(),
    ) {
        let mut reader = RequestReader::new(encoding);
        let [_, a, b, c, d] = frame::header(u32::try_from(message.len()).unwrap());
        reader.push([flag, a, b, c, d].as_slice());
        reader.push(message.as_slice());
        reader.push(rest.as_slice());
        while let Ok(Some(_)) = reader.next_message() {}
    }
}

/// Letters that hardly compress.
fn noise(len: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..len).map(|_| rng.alphanumeric()).collect()
}

fn stats(entries: usize, token: &str) -> Vec<u8> {
    let entry = ClientStatsPerToken {
        load_balance_token: token.to_owned(),
        num_calls: 1,
    };
    LoadBalanceRequest {
        load_balance_request_type: Some(LoadBalanceRequestType::ClientStats(ClientStats {
            num_calls_started: 7,
            calls_finished_with_drop: vec![entry; entries],
            ..ClientStats::default()
        })),
    }
    .encode_to_vec()
}

#[test]
fn a_message_just_short_enough_is_read_whole() {
    // Tag and length take four bytes each, of the request and of the name.
    let fits = initial(&"a".repeat(MAX_REQUEST - 8));
    assert_eq!(fits.len(), MAX_REQUEST);
    for (more, ok) in [(0, true), (1, false)] {
        let plain = initial(&noise(MAX_REQUEST - 8 + more));
        let bytes = compress(Encoding::Gzip, &plain);
        let read = Encoding::Gzip.decompress(&bytes);
        assert_eq!(read.is_ok(), ok, "{read:?}");
    }
}

#[test]
fn a_short_message_does_not_become_a_long_one() {
    for encoding in [Encoding::Gzip, Encoding::Deflate] {
        let long = compress(encoding, &vec![0; MAX_REQUEST]);
        assert!(long.len() < 1000);
        let read = encoding.decompress(&long);
        assert!(matches!(read, Err(Malformed::TooLong(_))), "{read:?}");
        // What reports are is far from it.
        let report = stats(100, "maintenance");
        let read = encoding.decompress(&compress(encoding, &report));
        assert_eq!(read.unwrap(), report);
    }
}

#[test]
fn entries_are_counted_before_they_are_decoded() {
    let most = decode(stats(MAX_ENTRIES, "t").into());
    assert!(matches!(most, Ok(Message::Stats(_))), "{most:?}");
    let more = decode(stats(MAX_ENTRIES + 1, "").into());
    assert_eq!(more, Err(Malformed::TooManyEntries(MAX_ENTRIES + 1)));
}

proptest! {
    #[test]
    fn reading_costs_no_more_than_is_paid_for(
        plain in prop::collection::vec(0u8..3, 0..8192),
        encoding in encodings(),
    ) {
        let wire = compress(encoding, &plain);
        let mut reader = RequestReader::new(encoding);
        let [_, a, b, c, d] = frame::header(u32::try_from(wire.len()).unwrap());
        reader.push([1, a, b, c, d].as_slice());
        reader.push(wire.as_slice());
        let unread = reader.next_unread().unwrap().unwrap();
        let cost = reader.cost(&unread);
        if let Ok(read) = encoding.decompress(&wire) {
            prop_assert!(read.len() as u64 <= cost);
        }
    }

    #[test]
    fn no_bytes_stop_the_count(bytes: Vec<u8>) {
        entries::count(bytes.into());
    }
}
