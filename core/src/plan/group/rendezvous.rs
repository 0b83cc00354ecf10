//! Hashing by which parties find each other: each pair has a score, whoever else
//! there is.

/// The score of a pair. Both may be any numbers; small ones are as good as
/// hashes.
#[must_use]
pub fn score(a: u64, b: u64) -> u64 {
    // The finalizer of SplitMix64, over both.
    mix(a ^ mix(b.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
