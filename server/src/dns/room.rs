//! Who makes room when there are too many connections. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// A connection that has been without a query for less may be about to ask:
/// after an outage a whole site asks at once, from one address.
const FRESH: Duration = Duration::from_secs(1);

/// A connection, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<K> {
    pub(super) key: K,
    pub(super) peer: IpAddr,
    /// Since its last query, or since it was accepted.
    pub(super) idle: Duration,
}

/// What becomes of a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict<K> {
    /// There is room.
    Admit,
    /// There is if this connection is closed.
    Evict(K),
    /// There is none.
    Refuse,
}

/// Judges a newcomer by those that are there, at most `limit`.
///
/// If all are taken, the client that has most gives one up: whoever takes all so
/// takes from itself. It is the one that has been without a query for longest.
/// There is no other limit for a client, as many may share an address.
pub(super) fn judge<K: Copy>(
    newcomer: IpAddr,
    limit: usize,
    held: impl ExactSizeIterator<Item = Held<K>> + Clone,
) -> Verdict<K> {
    if held.len() < limit {
        return Verdict::Admit;
    }
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for held in held.clone() {
        *counts.entry(held.peer).or_default() += 1;
    }
    let most = counts.values().max();
    let has_most = |peer: &IpAddr| counts.get(peer) == most;
    let is_own = has_most(&newcomer);
    let may_go = |held: &Held<K>| match is_own {
        true => held.peer == newcomer,
        false => has_most(&held.peer),
    };
    match held.filter(may_go).max_by_key(|held| held.idle) {
        Some(victim) if victim.idle >= FRESH || !is_own => Verdict::Evict(victim.key),
        _ => Verdict::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTIONS: usize = 1024;
    const OLD: Duration = Duration::from_secs(2);
    const NEW: Duration = Duration::ZERO;

    fn peer(n: usize) -> IpAddr {
        IpAddr::from([192, 0, 2, u8::try_from(n).unwrap()])
    }

    /// There are connections of clients, `(client, count, idle)`, of each the next
    /// one a microsecond longer without a query; a client comes.
    fn judged(newcomer: usize, there: &[(usize, usize, Duration)]) -> Verdict<(usize, usize)> {
        let held = there.iter().flat_map(|(n, count, idle)| {
            (0..*count).map(move |at| Held {
                key: (*n, at),
                peer: peer(*n),
                idle: *idle + Duration::from_micros(u64::try_from(at).unwrap()),
            })
        });
        let held: Vec<_> = held.collect();
        judge(peer(newcomer), CONNECTIONS, held.iter().copied())
    }

    #[test]
    fn there_is_room_until_all_are_taken() {
        assert_eq!(judged(1, &[]), Verdict::Admit);
        assert_eq!(judged(1, &[(1, CONNECTIONS - 1, OLD)]), Verdict::Admit);
    }

    #[test]
    fn who_has_most_gives_up_the_one_that_is_idle_longest() {
        let most = CONNECTIONS - 20;
        for idle in [OLD, NEW] {
            let there = [(1, most, idle), (2, 20, OLD * 2)];
            assert_eq!(judged(3, &there), Verdict::Evict((1, most - 1)));
            assert_eq!(judged(2, &there), Verdict::Evict((1, most - 1)));
        }
        let four: Vec<_> = (1..=4).map(|n| (n, CONNECTIONS / 4, OLD)).collect();
        assert!(matches!(judged(5, &four), Verdict::Evict((_, 255))));
        assert_eq!(judged(2, &four), Verdict::Evict((2, 255)));
    }

    #[test]
    fn who_has_most_and_comes_faster_than_it_asks_is_refused() {
        assert_eq!(judged(1, &[(1, CONNECTIONS, NEW)]), Verdict::Refuse);
        let all = CONNECTIONS - 1;
        assert_eq!(
            judged(1, &[(1, CONNECTIONS, OLD)]),
            Verdict::Evict((1, all))
        );
        assert_eq!(
            judged(2, &[(1, CONNECTIONS, NEW)]),
            Verdict::Evict((1, all))
        );
    }
}
