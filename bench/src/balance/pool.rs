//! Permits of a backend, the queue for them, and how many were in use over time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// Permits; clones are handles to the same.
#[derive(Debug, Clone)]
pub(super) struct Pool(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    permits: u64,
    busy: u64,
    queue: VecDeque<oneshot::Sender<Permit>>,
    used: Used,
    counted_to: Instant,
}

/// Permits × time, in nanoseconds, since the pool was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Of the permits in use.
    pub(super) busy: u64,
    /// Of all.
    pub(super) all: u64,
}

/// The right to work; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Pool);

impl Used {
    /// Share of the permits that were in use since `earlier`.
    pub(super) fn since(self, earlier: Self) -> f64 {
        (self.busy - earlier.busy) as f64 / (self.all - earlier.all).max(1) as f64
    }
}

impl Pool {
    pub(super) fn new(permits: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            permits,
            busy: 0,
            queue: VecDeque::new(),
            used: Used::default(),
            counted_to: Instant::now(),
        })))
    }

    /// Waits for a permit, first come, first served; none if that takes longer than
    /// `patience`.
    pub(super) async fn acquire(&self, patience: Duration) -> Option<Permit> {
        let turn = {
            let mut state = self.lock();
            if state.busy < state.permits {
                state.busy += 1;
                return Some(Permit(self.clone()));
            }
            let (turn, wait) = oneshot::channel();
            state.queue.push_back(turn);
            wait
        };
        // A permit that comes at the last moment is dropped with the channel, and
        // so given back.
        timeout(patience, turn).await.ok()?.ok()
    }

    /// There are only so many permits from now on; fewer than before. Who has one
    /// more keeps it until it is done.
    pub(super) fn shrink(&self, permits: u64) {
        self.lock().permits = permits;
    }

    /// What was used up to now.
    pub(super) fn used(&self) -> Used {
        self.lock().used
    }

    /// The state, with its integrals up to now.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now - std::mem::replace(&mut state.counted_to, now);
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        state.used.busy += state.busy * passed;
        state.used.all += state.permits * passed;
        state
    }

    fn release(&self) {
        let mut state = self.lock();
        let mut next = None;
        if state.busy <= state.permits {
            while let Some(turn) = state.queue.pop_front() {
                if !turn.is_closed() {
                    next = Some(turn);
                    break;
                }
            }
        }
        match next {
            Some(turn) => {
                drop(state);
                // Who went away in this very moment gives it back at once.
                let _ = turn.send(Permit(self.clone()));
            }
            None => state.busy -= 1,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn permits_in_use_are_counted_by_the_time_that_they_are() {
        let pool = Pool::new(4);
        let first = pool.acquire(S).await.unwrap();
        tokio::time::advance(S).await;
        let second = pool.acquire(S).await.unwrap();
        tokio::time::advance(S).await;
        drop((first, second));
        tokio::time::advance(2 * S).await;
        let used = pool.used();
        assert_eq!((used.busy, used.all), (3_000_000_000, 16_000_000_000));
        assert_eq!(used.since(Used::default()), 3.0 / 16.0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_in_turn_and_who_waits_too_long_is_not() {
        let pool = Pool::new(1);
        let held = pool.acquire(S).await.unwrap();
        let (impatient, patient) = tokio::join!(pool.acquire(S), async {
            let wait = pool.acquire(10 * S);
            let give_back = async {
                tokio::time::sleep(2 * S).await;
                drop(held);
            };
            tokio::join!(wait, give_back).0
        });
        assert!(impatient.is_none());
        let patient = patient.unwrap();
        assert_eq!(pool.lock().busy, 1);
        drop(patient);
        assert_eq!(pool.lock().busy, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn permits_that_are_lost_are_not_given_again() {
        let pool = Pool::new(2);
        let both = (pool.acquire(S).await.unwrap(), pool.acquire(S).await);
        pool.shrink(1);
        drop(both.0);
        assert!(pool.acquire(S).await.is_none());
        drop(both.1);
        assert!(pool.acquire(S).await.is_some());
    }
}
