//! Counting calls: a few atomic additions when a call begins and when it ends,
//! on a cache line that the thread seldom shares.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Lines to count on. Threads take them in turn, so that two threads meet on
/// one only where there are more threads.
const STRIPES: usize = 32;

/// How often a reader looks at a stripe that is being written to before it lets
/// other threads run: a writer is through in nanoseconds, if it runs at all.
const SPINS: usize = 100;

/// How often a reader looks before it gives up.
const LOOKS: usize = 10_000;

/// Counters of calls. Times are since some moment that all of them share.
#[derive(Debug)]
pub(super) struct Counters {
    stripes: Box<[Stripe]>,
}

/// Calls since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Calls that began.
    pub(super) started: u64,
    /// Calls that ended, in whatever way.
    pub(super) ended: u64,
    /// Calls that ended and were errors.
    pub(super) errors: u64,
    /// Time that calls were under way, of all calls together, up to the moment
    /// of reading; in nanoseconds, modulo 2⁶⁴. Only differences mean something.
    pub(super) busy: u64,
}

/// Each number is a sum over the events that this stripe was told of; a call may
/// begin on one and end on another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    /// Events that somebody began to write down here.
    begun: AtomicU64,
    /// Sum of the times of ends, less the sum of the times of starts, modulo 2⁶⁴.
    times: AtomicU64,
    errors: AtomicU64,
    started: AtomicU64,
    ended: AtomicU64,
}

impl Counters {
    /// A call began at `now`.
    pub(super) fn start(&self, now: Duration) {
        let stripe = self.stripe();
        stripe.begun.fetch_add(1, Ordering::AcqRel);
        let sum = 0u64.wrapping_sub(nanos(now));
        stripe.times.fetch_add(sum, Ordering::AcqRel);
        stripe.started.fetch_add(1, Ordering::AcqRel);
    }

    /// A call ended at `now`.
    pub(super) fn end(&self, now: Duration, error: bool) {
        let stripe = self.stripe();
        stripe.begun.fetch_add(1, Ordering::AcqRel);
        stripe.times.fetch_add(nanos(now), Ordering::AcqRel);
        if error {
            stripe.errors.fetch_add(1, Ordering::AcqRel);
        }
        stripe.ended.fetch_add(1, Ordering::AcqRel);
    }

    /// Everything up to `now`. `None` in the unheard-of case that a writer was
    /// held up half-way for all of the time that the reader looked.
    pub(super) fn totals(&self, now: Duration) -> Option<Totals> {
        let mut totals = Totals::default();
        for stripe in &self.stripes {
            let seen = stripe.read(nanos(now))?;
            totals.started += seen.started;
            totals.ended += seen.ended;
            totals.errors += seen.errors;
            totals.busy = totals.busy.wrapping_add(seen.busy);
        }
        Some(totals)
    }

    /// Calls under way.
    pub(super) fn in_flight(&self) -> u64 {
        // Ends first: a call that ends meanwhile is then under way still, and
        // none is missing.
        let ended: u64 = self.sum(|stripe| &stripe.ended);
        self.started().saturating_sub(ended)
    }

    /// Calls that began.
    pub(super) fn started(&self) -> u64 {
        self.sum(|stripe| &stripe.started)
    }

    fn sum(&self, of: impl Fn(&Stripe) -> &AtomicU64) -> u64 {
        let stripes = self.stripes.iter();
        stripes.map(|s| of(s).load(Ordering::Acquire)).sum()
    }

    fn stripe(&self) -> &Stripe {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static OWN: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        &self.stripes[OWN.get()]
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Stripe::default()).collect(),
        }
    }
}

impl Stripe {
    /// Counts and times that belong together: time under way is
    /// `now × (started − ended) + times`, and an event that is in one of the two
    /// and not in the other would be off by `now`.
    fn read(&self, now: u64) -> Option<Totals> {
        let mut totals = Totals::default();
        for look in 0..LOOKS {
            totals.ended = self.ended.load(Ordering::Acquire);
            totals.started = self.started.load(Ordering::Acquire);
            totals.errors = self.errors.load(Ordering::Acquire);
            let times = self.times.load(Ordering::Acquire);
            let under_way = totals.started.wrapping_sub(totals.ended);
            totals.busy = now.wrapping_mul(under_way).wrapping_add(times);
            // Whoever added to what was read began before: if as many began as
            // were through at the first look, nobody was half-way.
            if self.begun.load(Ordering::Acquire) == totals.started + totals.ended {
                return Some(totals);
            }
            if look < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        None
    }
}

fn nanos(time: Duration) -> u64 {
    // 584 years from now it would be cut off.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn time_under_way_is_that_of_calls_that_ended_and_of_those_that_did_not() {
        let counters = Counters::default();
        counters.start(ms(100));
        counters.start(ms(200));
        counters.end(ms(300), true);
        let totals = counters.totals(ms(1000)).unwrap();
        assert_eq!((totals.started, totals.ended, totals.errors), (2, 1, 1));
        assert_eq!(totals.busy, 1_000_000 * (200 + 800));
        assert_eq!(counters.in_flight(), 1);
    }

    #[test]
    fn readers_never_see_half_an_event() {
        let counters = Arc::new(Counters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let now = Duration::from_secs(1_000_000);
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let (counters, stop) = (Arc::clone(&counters), Arc::clone(&stop));
                std::thread::spawn(move || {
                    let mut calls = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        counters.start(now);
                        counters.end(now, false);
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        let mut reads = 0;
        for _ in 0..20_000 {
            // A reader gives up if a writer is held up half-way, as it may be where
            // threads outnumber cores.
            let Some(totals) = counters.totals(now) else {
                continue;
            };
            // Every event is at the moment of reading, so nothing took time.
            assert_eq!(totals.busy, 0);
            reads += 1;
        }
        assert!(reads > 10_000, "{reads} of 20000 reads came to an end");
        stop.store(true, Ordering::Relaxed);
        let calls: u64 = writers.into_iter().map(|w| w.join().unwrap()).sum();
        let totals = counters.totals(now).unwrap();
        assert_eq!((totals.started, totals.ended), (calls, calls));
    }

    proptest! {
        #[test]
        fn busy_time_is_the_sum_of_durations(
            calls in proptest::collection::vec((0u64..1000, 0u64..1000), 0..50),
        ) {
            let counters = Counters::default();
            for (start, duration) in &calls {
                counters.start(ms(*start));
                counters.end(ms(start + duration), false);
            }
            let sum: u64 = calls.iter().map(|(_, duration)| duration).sum();
            let totals = counters.totals(ms(5000)).unwrap();
            prop_assert_eq!(totals.busy, sum * 1_000_000);
            prop_assert_eq!(totals.ended, calls.len() as u64);
        }
    }
}
