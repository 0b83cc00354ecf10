//! A balancer that begins without knowing anything waits before it tells what a
//! policy makes of the first reports.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::weights::moment::{Moment, Rebase};

/// It waits until this share of the backends is known, in tenths.
const TENTHS_KNOWN: usize = 9;

/// But no longer than this and two intervals of reports.
const LONGEST: Duration = Duration::from_secs(15);

/// Whether changes of weights are held back.
///
/// While few backends are known, each that becomes known would move all weights,
/// and clients would be told of it every five seconds. What a stream that has no
/// list is sent is not held back, nor who joins, is removed or ejected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Hold {
    began: Option<Moment>,
    over: bool,
}

impl Hold {
    /// Whether to hold back at `now`, with so many known of all the backends, whose
    /// reports are asked for at this interval. Once it says no, it says no for good.
    pub(super) fn holds(
        &mut self,
        (known, all): (usize, usize),
        interval: Duration,
        now: Moment,
    ) -> bool {
        let began = *self.began.get_or_insert(now);
        let longest = LONGEST.saturating_add(interval.saturating_mul(2));
        self.over |= 10 * known >= TENTHS_KNOWN * all || now.since(began) >= longest;
        !self.over
    }

    /// Whether it said that it holds, and did not yet say that it no longer does.
    pub(super) fn is_on(self) -> bool {
        self.began.is_some() && !self.over
    }
}

impl Rebase for Hold {
    fn rebase(&mut self, from: Moment, to: Moment) {
        self.began.rebase(from, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    #[test]
    fn it_ends_when_nine_in_ten_are_known_and_does_not_come_back() {
        let mut hold = Hold::default();
        assert!(!hold.is_on());
        assert!(hold.holds((8, 10), INTERVAL, at(0)));
        assert!(hold.is_on());
        assert!(!hold.holds((9, 10), INTERVAL, at(5)));
        assert!(!hold.holds((0, 10), INTERVAL, at(6)));
        assert!(!hold.is_on());
    }

    #[test]
    fn it_ends_though_nobody_reports() {
        let mut hold = Hold::default();
        for second in 100..125 {
            assert!(hold.holds((0, 10), INTERVAL, at(second)));
        }
        assert!(!hold.holds((0, 10), INTERVAL, at(125)));
    }
}
