//! Long lists: how many attempts run at once, and who waits for whom.

use super::*;

/// As a policy does that wants a connection to each.
fn connect_all(pool: &mut Pool, subchannels: &[Subchannel]) {
    subchannels.iter().for_each(|one| pool.connect(one));
}

fn acquire_all(pool: &mut Pool, addresses: &[Address]) -> Vec<Subchannel> {
    addresses.iter().map(|a| pool.acquire(a)).collect()
}

fn is_ready(pool: &Pool, subchannel: &Subchannel) -> bool {
    matches!(pool.state(subchannel), SubchannelState::Ready(_))
}

#[tokio::test(start_paused = true)]
async fn a_huge_list_opens_a_bounded_number_of_attempts_at_once() {
    let memory = Memory::default();
    let addresses = addresses(20_000);
    memory.world().dead = addresses.iter().cloned().collect();
    let mut pool = memory.pool(ConnectOptions::default());
    let subchannels = acquire_all(&mut pool, &addresses);
    connect_all(&mut pool, &subchannels);
    let connecting = |pool: &Pool| {
        let states = subchannels.iter().map(|one| pool.state(one));
        states
            .filter(|state| matches!(state, SubchannelState::Connecting))
            .count()
    };
    assert_eq!(connecting(&pool), addresses.len());
    // The clock moves when nobody has anything left to do.
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(memory.world().running, attempts::AT_ONCE);
    // Everyone's turn comes, although nobody answers.
    while memory.world().tried.len() < addresses.len() {
        pool.changed().await;
    }
    assert!(memory.world().most <= attempts::MOST);
    let reason = pool.last_error(&subchannels[0]).unwrap();
    assert!(reason.to_string().contains("others wait"), "{reason}");

    // Let go, they end, and nothing is left.
    drop(subchannels);
    while !pool.places.is_empty() {
        let changed = time::timeout(Duration::from_secs(1), pool.changed());
        let _ = changed.await;
    }
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(memory.world().running, 0);
}

#[tokio::test(start_paused = true)]
async fn dead_entries_do_not_hold_up_the_living() {
    let memory = Memory::default();
    let addresses = addresses(2000);
    let (dead, living): (Vec<_>, Vec<_>) = (0..addresses.len()).partition(|place| place % 2 == 0);
    memory.world().dead = dead.iter().map(|place| addresses[*place].clone()).collect();
    let mut pool = memory.pool(ConnectOptions::default());
    let subchannels = acquire_all(&mut pool, &addresses);
    let started = Instant::now();
    connect_all(&mut pool, &subchannels);
    while !living
        .iter()
        .all(|place| is_ready(&pool, &subchannels[*place]))
    {
        pool.changed().await;
    }
    // With 128 places and a timeout of 20 s it would be 156 s.
    assert!(
        started.elapsed() <= Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert!(
        !dead
            .iter()
            .any(|place| is_ready(&pool, &subchannels[*place]))
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_nobody_waits_behind_has_the_whole_timeout() {
    let memory = Memory::default();
    let addresses = addresses(attempts::MOST);
    memory.world().dead = addresses.iter().cloned().collect();
    let mut pool = memory.pool(ConnectOptions::default());
    let subchannels = acquire_all(&mut pool, &addresses);
    let started = Instant::now();
    connect_all(&mut pool, &subchannels);
    pool.changed().await;
    assert!(started.elapsed() >= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_changes_all_the_time_leaves_nothing_behind() {
    let memory = Memory::default();
    let mut pool = memory.pool(ConnectOptions::default());
    let addresses = addresses(3000);
    for round in 0..30 {
        let part = &addresses[round * 100..][..100];
        let subchannels = acquire_all(&mut pool, part);
        connect_all(&mut pool, &subchannels);
        while !subchannels.iter().all(|one| is_ready(&pool, one)) {
            pool.changed().await;
        }
        let changed = time::timeout(Duration::from_secs(3), pool.changed());
        let _ = changed.await;
        drop(subchannels);
        assert!(pool.places.len() <= 600, "{}", pool.places.len());
    }
    let end = time::timeout(Duration::from_secs(11), pool.changed());
    assert!(end.await.is_err());
    assert!(pool.places.is_empty() && pool.jobs.is_empty());
    assert!(pool.slots.len() <= 600, "{}", pool.slots.len());
}
