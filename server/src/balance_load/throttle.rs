//! Holds back refusals of a client that asks again and again.
//!
//! A refused client should back off by itself, and gRPC's do, but for one way
//! around it: a resolver that answers at once restarts grpc-java's stream without
//! its backoff, 2000 times a second. An answer that comes a second later costs a
//! client that does back off nothing, and this one its speed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::net::Network;

/// Refusals that one address gets at once in each period. Whole sites stand
/// behind one address.
const AT_ONCE: u32 = 20;

/// The period, and how long one more is held back.
const HELD_BACK: Duration = Duration::from_secs(1);

/// Addresses that are told apart in a period; others are not held back.
const ADDRESSES: usize = 10_000;

/// Counts refusals by address, one period at a time.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Period>);

#[derive(Debug, Default)]
struct Period {
    began: Option<Instant>,
    refusals: HashMap<Network, u32>,
}

impl Throttle {
    /// How long to hold back a refusal to `peer`; zero for most.
    pub(super) fn hold_back(&self, peer: Network) -> Duration {
        let now = Instant::now();
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if period.began.is_none_or(|began| now >= began + HELD_BACK) {
            period.began = Some(now);
            period.refusals.clear();
        }
        if period.refusals.len() >= ADDRESSES && !period.refusals.contains_key(&peer) {
            return Duration::ZERO;
        }
        let refusals = period.refusals.entry(peer).or_default();
        *refusals = refusals.saturating_add(1);
        if *refusals > AT_ONCE {
            HELD_BACK
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::advance;

    use super::*;

    fn ip(last: u32) -> Network {
        Network::of(Ipv4Addr::from_bits(0x0a00_0000 + last).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_again_and_again_waits_and_others_do_not() {
        let throttle = Throttle::default();
        for _ in 0..AT_ONCE {
            assert_eq!(throttle.hold_back(ip(1)), Duration::ZERO);
        }
        assert_eq!(throttle.hold_back(ip(1)), HELD_BACK);
        assert_eq!(throttle.hold_back(ip(2)), Duration::ZERO);
        advance(HELD_BACK).await;
        assert_eq!(throttle.hold_back(ip(1)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_addresses_is_not_remembered() {
        let throttle = Throttle::default();
        for last in 0..30_000 {
            throttle.hold_back(ip(last));
        }
        assert_eq!(throttle.0.lock().unwrap().refusals.len(), ADDRESSES);
    }
}
