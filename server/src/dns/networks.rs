//! How many answers each network gets by UDP, where a sender may be forged.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// Sets of slots; a network belongs to one. All of them take 256 KiB.
const SETS: usize = 4096;
const WAYS: usize = 4;

/// The bits of an address that are its network's: what one site has, and an
/// attacker's victim with it.
const V4_PREFIX: u32 = 24;
const V6_PREFIX: u32 = 56;

/// A rate for each network, kept in a fixed number of slots.
///
/// A slot says when its network will have all its answers back (the generic
/// cell rate algorithm), so one that is past is as good as empty. Only if all
/// slots of a set are in use two networks share one: whoever forges senders
/// makes others ask over TCP, but gets no more answers.
#[derive(Debug)]
pub(super) struct Networks {
    slots: Box<[[Slot; WAYS]]>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    network: u64,
    full_at: Duration,
}

impl Default for Networks {
    fn default() -> Self {
        Self {
            slots: vec![[Slot::default(); WAYS]; SETS].into(),
            hasher: RandomState::new(),
        }
    }
}

impl Networks {
    /// Takes one answer of those that the network of `ip` has, `per_second` of
    /// them and at most so many at once; false if there is none. `now` is the
    /// time since any fixed moment, and 0 a second is no limit.
    pub(super) fn take(&mut self, ip: IpAddr, per_second: u32, now: Duration) -> bool {
        if per_second == 0 {
            return true;
        }
        let network = network(ip);
        // The remainder is less than the sets.
        let set = (self.hasher.hash_one(network) % SETS as u64) as usize;
        let Some(set) = self.slots.get_mut(set) else {
            return true;
        };
        let mine = set.iter().position(|slot| slot.network == network);
        let soonest = || (0..WAYS).min_by_key(|at| set[*at].full_at);
        let Some(at) = mine.or_else(soonest) else {
            return true;
        };
        let slot = &mut set[at];
        slot.network = network;
        let full_at = slot.full_at.max(now) + Duration::from_secs(1) / per_second;
        let allowed = full_at - now <= Duration::from_secs(1);
        if allowed {
            slot.full_at = full_at;
        }
        allowed
    }
}

/// The network of an address as a number; never 0.
fn network(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (4 << V6_PREFIX) | u64::from(ip.to_bits() >> (32 - V4_PREFIX)),
        // 56 bits.
        IpAddr::V6(ip) => (6 << V6_PREFIX) | (ip.to_bits() >> (128 - V6_PREFIX)) as u64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_site_is_one_network() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.254", true),
            ("192.0.2.1", "192.0.3.1", false),
            ("192.0.2.1", "::ffff:192.0.2.9", true),
            ("2001:db8:0:100::1", "2001:db8:0:1ff::2", true),
            ("2001:db8:0:100::1", "2001:db8:0:200::1", false),
            ("0.0.0.0", "::", false),
        ] {
            assert_eq!(
                network(ip(one)) == network(ip(other)),
                same,
                "{one} {other}"
            );
        }
        assert_ne!(network(ip("0.0.0.0")), 0);
        assert_ne!(network(ip("::")), 0);
    }

    #[test]
    fn one_networks_flood_leaves_the_others_theirs() {
        let mut networks = Networks::default();
        let now = Duration::from_secs(5);
        let taken = (0..1000).filter(|_| networks.take(ip("192.0.2.1"), 50, now));
        assert_eq!(taken.count(), 50);
        for last in 0..100 {
            let other = ip(&format!("198.51.{last}.1"));
            assert!(networks.take(other, 50, now), "{other}");
        }
        let later = now + Duration::from_millis(100);
        let taken = (0..1000).filter(|_| networks.take(ip("192.0.2.77"), 50, later));
        assert_eq!(taken.count(), 5);
    }

    #[test]
    fn a_crowd_of_networks_gets_no_more_than_the_slots_have() {
        let mut networks = Networks::default();
        let now = Duration::ZERO;
        let crowd = (0..200_000u32).map(|n| IpAddr::from((n << 8).to_be_bytes()));
        let taken = crowd.filter(|ip| networks.take(*ip, 2, now)).count();
        assert!(taken <= SETS * WAYS * 2, "{taken}");
    }

    proptest! {
        #[test]
        fn a_network_never_gets_more_than_its_rate_and_a_seconds_worth(
            per_second in 1u32..1000,
            waits in proptest::collection::vec(0u64..50_000, 1..300),
        ) {
            let mut networks = Networks::default();
            let (mut now, mut taken) = (Duration::ZERO, 0);
            for wait in waits {
                now += Duration::from_micros(wait);
                taken += u32::from(networks.take(ip("192.0.2.1"), per_second, now));
                let most = f64::from(per_second) * (1.0 + now.as_secs_f64());
                prop_assert!(f64::from(taken) <= most + 1.0, "{} in {:?}", taken, now);
            }
        }

        #[test]
        fn who_asks_no_faster_than_the_rate_is_never_limited(per_second in 1u32..1000) {
            let mut networks = Networks::default();
            for n in 0..300 {
                let now = Duration::from_secs(1) / per_second * n;
                prop_assert!(networks.take(ip("192.0.2.1"), per_second, now));
            }
        }
    }
}
