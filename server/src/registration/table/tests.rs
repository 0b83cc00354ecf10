//! Leases, and who comes instead of whom.

use std::collections::HashMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::catalogue::HOLD;
use crate::net::Peer;

const LEASE: Duration = Duration::from_secs(15);

fn name() -> ServiceName {
    ServiceName::parse("greeter.test").unwrap()
}

fn addr(index: u16) -> BackendAddr {
    let [high, low] = index.to_be_bytes();
    format!("10.0.{high}.{low}:80").parse().unwrap()
}

fn registration(owner: u64, instance: &str, until: Instant) -> Registration {
    Registration {
        owner: Arc::new(Owner {
            id: owner,
            superseded: CancellationToken::new(),
        }),
        caller: Arc::new(Caller {
            peer: Arc::new(Peer {
                addr: "10.0.0.1:5".parse().unwrap(),
                connection: CancellationToken::new(),
                untrusted: CancellationToken::new(),
                certificates: None,
            }),
            token: None,
        }),
        instance: instance.into(),
        weight: None,
        zone: None,
        labels: Labels::default(),
        drain: false,
        lease: Lease::Runs { until },
        state: StreamState::Connected,
        told: StreamState::Connected,
    }
}

fn open(now: Instant) -> Table {
    let mut table = Table::default();
    table.allow([(&name(), now)].into_iter());
    table
}

/// Registers backends 1.. with owners of the same number.
fn with_backends(count: u16, now: Instant) -> Table {
    let mut table = open(now);
    for index in 1..=count {
        let registration = registration(index.into(), "a", now + LEASE);
        table
            .take(&name(), addr(index), registration, false)
            .unwrap();
    }
    table
}

/// The backends that are told now; `None` if there is nothing to tell.
fn told(table: &mut Table, now: Instant) -> Option<Vec<BackendAddr>> {
    let mut changes = table.changes(now);
    assert!(changes.len() <= 1);
    let members = changes.pop()?.contribution.members;
    Some(members.keys().copied().collect())
}

#[tokio::test(start_paused = true)]
async fn what_is_registered_is_told_once_the_service_opens() {
    let now = Instant::now();
    let opens = now + LEASE;
    let mut table = Table::default();
    table.allow([(&name(), opens)].into_iter());
    let early = registration(1, "a", now + LEASE * 2);
    table.take(&name(), addr(1), early, false).unwrap();
    assert_eq!(told(&mut table, now), None);
    assert_eq!(table.next(now), Some(opens));
    assert_eq!(told(&mut table, opens), Some(vec![addr(1)]));
    assert_eq!(told(&mut table, opens), None);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_opened_later_waits_for_its_first_backend_only() {
    let now = Instant::now();
    let mut table = Table::default();
    table.allow([].into_iter());
    table.allow([(&name(), now + LEASE)].into_iter());
    assert_eq!(told(&mut table, now), None);
    tokio::time::advance(Duration::from_secs(2)).await;
    for owner in [1, 2] {
        let early = registration(owner, "a", now + LEASE * 2);
        table
            .take(&name(), addr(owner as u16), early, false)
            .unwrap();
    }
    let opens = now + Duration::from_secs(3);
    assert_eq!(told(&mut table, Instant::now()), None);
    assert_eq!(table.next(now), Some(opens));
    assert_eq!(told(&mut table, opens), Some(vec![addr(1), addr(2)]));
}

#[tokio::test(start_paused = true)]
async fn the_newer_of_two_for_one_address_stays() {
    let now = Instant::now();
    let mut table = open(now);
    let old = registration(1, "old", now + LEASE);
    let superseded = old.owner.superseded.clone();
    table.take(&name(), addr(1), old, false).unwrap();
    let new = registration(2, "new", now + LEASE);
    let before = table.take(&name(), addr(1), new, false);
    assert_eq!(before, Ok(Before::Another));
    assert!(superseded.is_cancelled());
    let incarnation = |table: &mut Table| {
        let mut changes = table.changes(now);
        let members = changes.pop().unwrap().contribution.members;
        members[&addr(1)].incarnation.clone().unwrap()
    };
    assert_eq!(&*incarnation(&mut table), "new");

    // What the old one's stream still does is nothing to the new one.
    table.drain(&name(), addr(1), 1);
    table.disconnect(&name(), addr(1), 1);
    table.leave(&name(), addr(1), 1);
    table.renew(&name(), addr(1), 1, now + LEASE * 9);
    assert_eq!(told(&mut table, now), None);
    assert_eq!(table.next(now), Some(now + LEASE));

    // The same backend on another stream is no other.
    let again = registration(3, "new", now + LEASE);
    let before = table.take(&name(), addr(1), again, false);
    assert_eq!(before, Ok(Before::Itself));
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_leaves_when_its_lease_is_over() {
    let now = Instant::now();
    let mut table = with_backends(3, now);
    told(&mut table, now);
    for index in [1, 2] {
        table.renew(&name(), addr(index), index.into(), now + LEASE * 2);
    }
    table.expire(now + LEASE - Duration::from_millis(1));
    assert_eq!(told(&mut table, now), None);
    table.expire(now + LEASE);
    assert_eq!(told(&mut table, now), Some(vec![addr(1), addr(2)]));
    assert_eq!(table.take_ended().expired.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_those_that_are_not_listed_any_more_it_is_told_who_is_known_to_be_gone() {
    let now = Instant::now();
    let mut table = with_backends(4, now);
    told(&mut table, now);
    table.renew(&name(), addr(4), 4, now + LEASE * 2);
    table.leave(&name(), addr(1), 1);
    table.expire(now + LEASE);
    let change = table.changes(now + LEASE).pop().unwrap();
    assert_eq!(change.gone, [addr(1)].into());
    assert_eq!(change.contribution.members.len(), 1);
    // A lease is over, and then the stream: nobody listens there.
    table.disconnect(&name(), addr(2), 2);
    let suspect = table.take_suspects().pop().unwrap();
    table.gone(suspect);
    let change = table.changes(now + LEASE).pop().unwrap();
    assert_eq!(change.gone, [addr(2)].into());
    // One that is heard again is registered, and then not gone.
    assert!(table.renew(&name(), addr(3), 3, now + LEASE * 2));
    table.gone(Suspect {
        addr: addr(3),
        owner: 3,
    });
    assert_eq!(told(&mut table, now + LEASE), Some(vec![addr(3), addr(4)]));
}

#[tokio::test(start_paused = true)]
async fn who_is_removed_is_named() {
    let now = Instant::now();
    let mut table = with_backends(3, now);
    for index in [1, 2] {
        table.renew(&name(), addr(index), index.into(), now + LEASE * 2);
    }
    table.expire(now + LEASE);
    table.disconnect(&name(), addr(1), 1);
    let suspect = table.take_suspects().pop().unwrap();
    table.gone(suspect);
    let ended = table.take_ended();
    assert_eq!(ended.expired, [(name(), addr(3))]);
    assert_eq!(ended.refused, [(name(), addr(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_stays_until_nobody_listens_there() {
    let now = Instant::now();
    let mut table = with_backends(1, now);
    told(&mut table, now);
    table.disconnect(&name(), addr(1), 1);
    let change = table.changes(now).pop().unwrap();
    assert_eq!(change.states, [(addr(1), StreamState::Disconnected)]);
    let suspect = table.take_suspects().pop().unwrap();
    assert_eq!(suspect.addr, addr(1));
    table.gone(suspect);
    assert_eq!(told(&mut table, now), Some(vec![]));

    // One that came back meanwhile is not gone.
    let back = registration(2, "a", now + LEASE);
    table.take(&name(), addr(1), back, false).unwrap();
    table.gone(suspect);
    assert_eq!(told(&mut table, now), Some(vec![addr(1)]));
}

#[tokio::test(start_paused = true)]
async fn those_that_fell_silent_before_anything_was_told_are_told_of_first() {
    let now = Instant::now();
    let mut table = with_backends(3, now);
    table.renew(&name(), addr(1), 1, now + LEASE * 2);
    table.expire(now + LEASE);
    let changes = table.changes(now + LEASE);
    let listed = changes
        .iter()
        .map(|change| change.contribution.members.len());
    assert_eq!(listed.collect::<Vec<_>>(), [3, 1]);
    // Later they are told as they are.
    table.expire(now + LEASE * 2);
    assert_eq!(told(&mut table, now + LEASE * 2), Some(vec![]));
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_heard_for_a_lease_and_a_hold_is_not_registered() {
    let now = Instant::now();
    let mut table = with_backends(1, now);
    told(&mut table, now);
    table.expire(now + LEASE);
    assert_eq!(told(&mut table, now + LEASE), Some(vec![]));
    table.expire(now + LEASE + HOLD);
    assert_eq!(told(&mut table, now + LEASE + HOLD), None);
    assert!(!table.renew(&name(), addr(1), 1, now + LEASE * 9));
    assert_eq!(table.next(now), None);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_back_is_in_doubt_no_longer_even_after_its_lease() {
    let now = Instant::now();
    let mut table = with_backends(1, now);
    table.disconnect(&name(), addr(1), 1);
    let states = |table: &mut Table| table.changes(now).pop().unwrap().states;
    assert_eq!(states(&mut table), [(addr(1), StreamState::Disconnected)]);
    table.expire(now + LEASE);
    assert_eq!(states(&mut table), []);
    let back = registration(2, "a", now + LEASE * 2);
    table.take(&name(), addr(1), back, false).unwrap();
    assert_eq!(states(&mut table), [(addr(1), StreamState::Connected)]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_closed_has_nobody_any_more() {
    let now = Instant::now();
    let mut table = with_backends(3, now);
    told(&mut table, now);
    table.allow([].into_iter());
    assert_eq!(told(&mut table, now), Some(vec![]));
    assert_eq!(table.next(now), None);
    let late = registration(9, "a", now + LEASE);
    let taken = table.take(&name(), addr(9), late, false);
    assert_eq!(taken, Err(Rejected::Closed));
    assert_eq!(told(&mut table, now), None);
}

#[tokio::test(start_paused = true)]
async fn nobody_registers_for_a_service_that_is_closed_and_not_told_so_yet() {
    let now = Instant::now();
    let mut table = with_backends(3, now);
    told(&mut table, now);
    table.allow([].into_iter());
    let late = registration(9, "a", now + LEASE);
    let taken = table.take(&name(), addr(9), late, false);
    assert_eq!(taken, Err(Rejected::Closed));
    assert_eq!(told(&mut table, now), Some(vec![]));
    assert_eq!(table.next(now), None);
}

#[tokio::test(start_paused = true)]
async fn who_is_registered_is_told_again_with_each_configuration() {
    let now = Instant::now();
    let mut table = with_backends(2, now);
    told(&mut table, now);
    table.allow([(&name(), now + LEASE)].into_iter());
    assert_eq!(told(&mut table, now), Some(vec![addr(1), addr(2)]));
    assert_eq!(told(&mut table, now), None);
}

#[tokio::test(start_paused = true)]
async fn one_ip_does_not_fill_a_service_and_no_service_is_endless() {
    let now = Instant::now();
    let mut table = open(now);
    let port = |port: u32| format!("10.0.0.1:{port}").parse().unwrap();
    for index in 1..=64 {
        let registration = registration(1, "a", now + LEASE);
        table
            .take(&name(), port(index), registration, false)
            .unwrap();
    }
    let mut take = |addr, any| table.take(&name(), addr, registration(1, "a", now + LEASE), any);
    assert_eq!(take(port(65), false), Err(Rejected::IpFull));
    assert_eq!(take(port(64), false), Ok(Before::Itself));
    let mut taken = 64;
    while take(addr(taken), true).is_ok() {
        taken += 1;
    }
    assert_eq!(usize::from(taken), MAX_BACKENDS);
    assert_eq!(take(addr(taken), true), Err(Rejected::ServiceFull));
}

proptest! {
    #[test]
    fn counts_per_ip_are_those_of_the_registrations(
        events in proptest::collection::vec((0u8..6, 1u16..5, 1u64..4, 0u64..40), 0..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        let _guard = runtime.enter();
        let mut now = Instant::now();
        let mut table = open(now);
        for (event, index, owner, seconds) in events {
            let (name, addr) = (name(), addr(index));
            match event {
                0 | 1 => {
                    let registration = registration(owner, "a", now + LEASE);
                    let _ = table.take(&name, addr, registration, false);
                }
                2 => table.leave(&name, addr, owner),
                3 => table.disconnect(&name, addr, owner),
                4 => table.gone(Suspect { addr, owner }),
                _ => {
                    now += Duration::from_secs(seconds);
                    table.expire(now);
                }
            }
            let registrations = &table.services[&name];
            let mut counts: HashMap<IpAddr, usize> = HashMap::new();
            for addr in registrations.backends.keys() {
                *counts.entry(addr.ip()).or_default() += 1;
            }
            prop_assert_eq!(&counts, &registrations.per_ip);
            let over = |lease| matches!(lease, Lease::Runs { until } if until <= now);
            let over = event > 4 && registrations.backends.values().any(|r| over(r.lease));
            prop_assert!(!over);
        }
    }
}
