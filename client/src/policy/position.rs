//! Where a round stands that all threads go around together.

use std::sync::atomic::{AtomicU64, Ordering};

/// A position that every pick moves on, on cache lines of its own (two, because
/// processors fetch them in pairs). Whatever lay beside it would have to be
/// fetched anew after each pick of another thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Position(AtomicU64);

impl Position {
    pub(crate) fn new(start: u64) -> Self {
        Self(AtomicU64::new(start))
    }

    /// Moves on by `step`, and says from where. Wraps around.
    pub(crate) fn advance(&self, step: u64) -> u64 {
        self.0.fetch_add(step, Ordering::Relaxed)
    }

    /// Moves on by one in a round of `length`, and says from where in the round.
    pub(crate) fn turn(&self, length: usize) -> usize {
        (self.advance(1) % length as u64) as usize
    }
}
