//! When a stream that ended is opened again.

use std::time::Duration;

use crate::backoff::{Backoff, jittered};

/// Least time between the starts of two streams, ±20 %. The official clients
/// reopen a stream at once whenever it got as far as the handshake, which makes
/// 1500 streams a second against a balancer that ends them all.
const FLOOR: Duration = Duration::from_secs(1);
/// A stream that lasted is reopened after up to this, at random: its fellows
/// were cut off in the same moment.
const SPREAD: Duration = Duration::from_millis(250);

/// How long after the start of a stream that lasted for `age` the next one may
/// start. `greeted` says whether the balancer got as far as the handshake, and then
/// said what can be understood.
pub(super) fn reopen_after(
    age: Duration,
    greeted: bool,
    backoff: &mut Backoff,
    rng: &mut fastrand::Rng,
) -> Duration {
    if !greeted {
        return backoff.next_delay(rng);
    }
    backoff.reset();
    let floor = jittered(FLOOR, Backoff::JITTER, rng);
    floor.max(age + SPREAD.mul_f64(rng.f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balancer_that_ends_every_stream_is_asked_once_a_second() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            let after = reopen_after(Duration::ZERO, true, &mut backoff, &mut rng);
            assert!(after >= Duration::from_millis(800), "{after:?}");
            assert!(after <= Duration::from_millis(1200), "{after:?}");
        }
    }

    #[test]
    fn clients_that_were_cut_off_together_do_not_return_together() {
        let mut rng = fastrand::Rng::with_seed(3);
        let hour = Duration::from_secs(3600);
        let delays: Vec<_> = (0..100)
            .map(|_| reopen_after(hour, true, &mut Backoff::default(), &mut rng) - hour)
            .collect();
        assert!(delays.iter().all(|delay| *delay <= SPREAD));
        let early = delays.iter().filter(|delay| **delay < SPREAD / 2).count();
        assert!(
            (30..=70).contains(&early),
            "{early} of 100 in the first half"
        );
    }

    #[test]
    fn a_balancer_that_refuses_is_asked_ever_more_rarely() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            reopen_after(Duration::ZERO, false, &mut backoff, &mut rng);
        }
        let after = reopen_after(Duration::ZERO, false, &mut backoff, &mut rng);
        assert!(after >= Duration::from_secs(96), "{after:?}");
        // Until one stream is greeted.
        reopen_after(Duration::ZERO, true, &mut backoff, &mut rng);
        let after = reopen_after(Duration::ZERO, false, &mut backoff, &mut rng);
        assert!(after <= Duration::from_millis(1200), "{after:?}");
    }
}
