//! When a file that changes is taken for what its writer meant.
//!
//! An editor, `cp` or a script may write in pieces, and a piece can be valid. A
//! file that was renamed into its place was written before; one that is written
//! where it is has to hold still for a while, though not for ever: a script that
//! sets a weight every 50 ms is followed.

use std::time::Duration;

use tokio::time::Instant;

/// What is equal this long after a rename was not being written, and a file that
/// never holds still is read when it did for so long.
pub(super) const MOMENT: Duration = Duration::from_millis(10);

/// A file that is written in place is whole when nothing was written for so long.
const QUIET: Duration = Duration::from_millis(100);

/// A file that does not become quiet is read after this time.
const LONGEST: Duration = Duration::from_millis(500);

/// And after this time it may be invalid, too.
const HOPELESS: Duration = Duration::from_secs(3);

/// How far the file can be trusted to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It may be half of a file.
    None,
    /// It is whole if it is valid.
    Valid,
    /// It is whole, and if it is invalid its writer should be told.
    Whole,
}

/// A file between its first change and the reading that counts.
#[derive(Debug)]
pub(super) struct Settling {
    /// When it was first seen to be another.
    began: Instant,
    /// Since when it is what it is.
    since: Instant,
    /// Whether it was put in its place whole.
    renamed: bool,
    /// Whether what it is now was tried, and is invalid.
    doubted: bool,
}

impl Settling {
    pub(super) fn new(now: Instant, renamed: bool) -> Self {
        Self {
            began: now,
            since: now,
            renamed,
            doubted: false,
        }
    }

    /// It is another than when it was looked at last; `renamed` since then.
    pub(super) fn differs(&mut self, now: Instant, renamed: bool) {
        self.since = now;
        self.renamed = renamed;
        self.doubted = false;
    }

    /// It is the same; `renamed` as was told since.
    pub(super) fn same(&mut self, renamed: bool) {
        self.renamed |= renamed;
    }

    /// It was tried on [`Trust::Valid`], and is invalid.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// How far it can be trusted if it is still the same at `now`.
    pub(super) fn trust(&self, now: Instant) -> Trust {
        let held = now - self.since;
        if held >= QUIET || (held >= MOMENT && now - self.began >= HOPELESS) {
            Trust::Whole
        } else if held >= MOMENT && self.hasty(now) && !self.doubted {
            Trust::Valid
        } else {
            Trust::None
        }
    }

    /// When it should be looked at next: in a moment at the earliest.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let wanted = if self.doubted {
            self.since + QUIET
        } else if self.hasty(now) {
            self.since + MOMENT
        } else {
            (self.since + QUIET).min(self.began + LONGEST)
        };
        wanted.max(now + MOMENT)
    }

    fn hasty(&self, now: Instant) -> bool {
        self.renamed || now - self.began >= LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// When a file is first trusted that is looked at when it asks to be, and what
    /// for. `changes` says when it changes, and whether by a rename.
    fn trusted(changes: &[(Duration, bool)], valid: bool) -> (Duration, Trust) {
        let began = Instant::now();
        let mut changes = changes.iter().peekable();
        let (first, renamed) = changes.next().unwrap();
        let mut settling = Settling::new(began + *first, *renamed);
        let mut now = began + *first;
        loop {
            now = settling.next(now);
            let mut differs = None;
            while let Some((_, renamed)) = changes.next_if(|(at, _)| began + *at <= now) {
                differs = Some(*renamed);
            }
            match differs {
                Some(renamed) => settling.differs(now, renamed),
                None => settling.same(false),
            }
            match settling.trust(now) {
                Trust::None => {}
                Trust::Valid if !valid => settling.doubt(),
                trust => return (now - began, trust),
            }
        }
    }

    fn every(pause: Duration, renamed: bool) -> Vec<(Duration, bool)> {
        (0..1000).map(|n| (pause * n, renamed)).collect()
    }

    #[test]
    fn a_file_renamed_into_place_is_whole_in_a_moment_if_it_is_valid() {
        let once = [(ms(0), true)];
        assert_eq!(trusted(&once, true), (MOMENT, Trust::Valid));
        let (at, trust) = trusted(&once, false);
        assert_eq!((at, trust), (QUIET, Trust::Whole));
    }

    #[test]
    fn a_file_written_in_place_is_whole_when_it_was_quiet() {
        assert_eq!(trusted(&[(ms(0), false)], true), (QUIET, Trust::Whole));
        // In pieces, each of them valid.
        let pieces = [(ms(0), false), (ms(60), false), (ms(120), false)];
        let (at, trust) = trusted(&pieces, true);
        assert!(at >= ms(220) && at <= ms(320), "{at:?}");
        assert_eq!(trust, Trust::Whole);
    }

    #[test]
    fn a_file_that_never_holds_still_is_read_after_half_a_second() {
        let (at, trust) = trusted(&every(ms(50), false), true);
        assert!(at >= LONGEST && at <= LONGEST + ms(60), "{at:?}");
        assert_eq!(trust, Trust::Valid);
        let (at, _) = trusted(&every(ms(50), true), true);
        assert_eq!(at, MOMENT);
    }

    #[test]
    fn a_file_that_never_holds_still_and_is_never_valid_is_told_of() {
        let (at, trust) = trusted(&every(ms(50), false), false);
        assert!(at >= HOPELESS && at <= HOPELESS + ms(60), "{at:?}");
        assert_eq!(trust, Trust::Whole);
    }

    #[test]
    fn what_changed_within_a_moment_is_never_trusted() {
        let began = Instant::now();
        let mut settling = Settling::new(began, true);
        for n in 1..1000 {
            let now = began + ms(9) * n;
            settling.differs(now, true);
            assert_eq!(settling.trust(now + ms(9)), Trust::None);
        }
    }
}
