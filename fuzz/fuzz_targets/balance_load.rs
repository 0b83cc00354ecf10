//! Requests of `BalanceLoad`: any bytes, in any encoding, cut anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lookaside_server::balance_load::{Encoding, MAX_REQUEST, Message, RequestReader};

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (encoding, cut, wire) = input;
    let encoding = match encoding % 3 {
        0 => Encoding::Identity,
        1 => Encoding::Gzip,
        _ => Encoding::Deflate,
    };
    let mut reader = RequestReader::new(encoding);
    for data in wire.chunks(usize::from(cut) + 1) {
        reader.push(data);
        loop {
            match reader.next_message() {
                Ok(Some(Message::Initial(name))) => assert!(name.len() <= MAX_REQUEST),
                Ok(Some(_)) => {}
                Ok(None) => break,
                // Once lost, always lost.
                Err(error) => {
                    assert_eq!(reader.next_message(), Err(error));
                    break;
                }
            }
        }
    }
});
