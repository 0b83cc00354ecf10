//! Who makes room when there are too many connections. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Most connections at a time.
pub(super) const CONNECTIONS: usize = 512;

/// Most connections of one client, unless it is about to use more.
pub(super) const CONNECTIONS_PER_PEER: usize = 64;

/// A connection that has been without a query for less may be about to ask:
/// after an outage a whole site asks at once, from one address.
const FRESH: Duration = Duration::from_millis(100);

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

/// Judges a newcomer by those that are there.
///
/// A client at its limit gives up a connection of its own. If all are taken, the
/// client that has most gives one up: whoever takes all so takes from itself.
/// Of several it is the one that has been without a query for longest.
pub(super) fn judge<K: Copy>(
    newcomer: IpAddr,
    held: impl Iterator<Item = Held<K>> + Clone,
) -> Verdict<K> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for held in held.clone() {
        *counts.entry(held.peer).or_default() += 1;
    }
    let total: usize = counts.values().sum();
    let own = counts.get(&newcomer).copied().unwrap_or_default();
    let most = counts.values().copied().max().unwrap_or_default();
    let is_full = total >= CONNECTIONS;
    let is_its_own = own >= CONNECTIONS_PER_PEER || (is_full && own == most);
    if !is_full && !is_its_own {
        return Verdict::Admit;
    }
    let may_go = |held: &Held<K>| match is_its_own {
        true => held.peer == newcomer,
        false => counts.get(&held.peer) == Some(&most),
    };
    match held.filter(may_go).max_by_key(|held| held.idle) {
        Some(victim) if victim.idle >= FRESH || !is_its_own => Verdict::Evict(victim.key),
        _ if is_full => Verdict::Refuse,
        _ => Verdict::Admit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: usize) -> IpAddr {
        IpAddr::from([192, 0, 2, u8::try_from(n).unwrap()])
    }

    /// `count` connections of a client, each a millisecond longer without a query.
    fn held(n: usize, count: usize, idle: Duration) -> impl Iterator<Item = Held<(usize, usize)>> {
        (0..count).map(move |at| Held {
            key: (n, at),
            peer: peer(n),
            idle: idle + Duration::from_millis(u64::try_from(at).unwrap()),
        })
    }

    fn judged(newcomer: usize, there: &[(usize, usize, Duration)]) -> Verdict<(usize, usize)> {
        let all = there
            .iter()
            .flat_map(|(n, count, idle)| held(*n, *count, *idle));
        let all: Vec<_> = all.collect();
        judge(peer(newcomer), all.iter().copied())
    }

    const OLD: Duration = Duration::from_secs(2);
    const NEW: Duration = Duration::ZERO;

    #[test]
    fn there_is_room_until_a_client_or_all_have_their_most() {
        assert_eq!(judged(1, &[]), Verdict::Admit);
        assert_eq!(judged(1, &[(1, 63, OLD)]), Verdict::Admit);
        assert_eq!(judged(2, &[(1, 64, OLD)]), Verdict::Admit);
    }

    #[test]
    fn a_client_at_its_limit_gives_up_the_one_that_is_idle_longest() {
        assert_eq!(
            judged(1, &[(1, 64, OLD), (2, 64, OLD)]),
            Verdict::Evict((1, 63))
        );
        // Unless all may be about to ask.
        assert_eq!(judged(1, &[(1, 64, NEW)]), Verdict::Admit);
        assert_eq!(
            judged(1, &[(1, CONNECTIONS - 1, NEW)]),
            Verdict::Evict((1, 510))
        );
    }

    #[test]
    fn who_has_most_makes_room_for_others() {
        let most = CONNECTIONS - 20;
        assert_eq!(
            judged(3, &[(1, most, NEW), (2, 20, OLD)]),
            Verdict::Evict((1, most - 1))
        );
        assert_eq!(
            judged(2, &[(1, most, NEW), (2, 20, OLD)]),
            Verdict::Evict((1, most - 1))
        );
        let eight: Vec<_> = (1..=8).map(|n| (n, 64, OLD)).collect();
        assert!(matches!(judged(9, &eight), Verdict::Evict((_, 63))));
    }

    #[test]
    fn who_has_most_and_floods_is_refused() {
        let idle = Duration::from_micros(10);
        let fresh: Vec<_> = (0..CONNECTIONS)
            .map(|at| Held {
                key: at,
                peer: peer(1),
                idle,
            })
            .collect();
        assert_eq!(judge(peer(1), fresh.iter().copied()), Verdict::Refuse);
        assert!(matches!(
            judge(peer(2), fresh.iter().copied()),
            Verdict::Evict(_)
        ));
    }
}
