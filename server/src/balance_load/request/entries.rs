//! How many entries statistics have, before any is decoded.
//!
//! An empty entry is two bytes on the wire and forty in memory, so they are counted
//! first.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Most entries that a report may have: one for each drop category of its service,
/// of which nobody has a hundred.
pub const MAX_ENTRIES: usize = 256;

/// The field of `LoadBalanceRequest` that is `client_stats`.
const CLIENT_STATS: u32 = 2;

/// The field of `ClientStats` that is `calls_finished_with_drop`.
const CALLS_FINISHED_WITH_DROP: u32 = 8;

/// Counts them in an encoded `LoadBalanceRequest`. What is malformed ends the count;
/// decoding it will fail there, too.
pub(super) fn count(request: Bytes) -> usize {
    let mut entries = 0;
    each(request, |field, stats| {
        if field == CLIENT_STATS {
            each(stats, |field, _| {
                entries += usize::from(field == CALLS_FINISHED_WITH_DROP);
            });
        }
    });
    entries
}

/// Calls `with` with the number and content of every field that has a length.
fn each(mut message: Bytes, mut with: impl FnMut(u32, Bytes)) {
    while message.has_remaining() {
        let Ok((field, wire_type)) = decode_key(&mut message) else {
            return;
        };
        if wire_type == WireType::LengthDelimited {
            match decode_varint(&mut message).map(usize::try_from) {
                Ok(Ok(len)) if len <= message.len() => with(field, message.split_to(len)),
                _ => return,
            }
        } else if skip_field(wire_type, field, &mut message, DecodeContext::default()).is_err() {
            return;
        }
    }
}
