//! Keeps the log readable when a thousand peers do the same thing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Of one kind, one line is logged in so long.
const PAUSE: Duration = Duration::from_secs(10);

/// Says which of many events that are alike are logged: of each kind the first, and
/// then one in ten seconds.
#[derive(Debug, Default)]
pub struct Seldom {
    // Bounded: kinds are words of this program.
    kinds: Mutex<BTreeMap<&'static str, Kind>>,
}

#[derive(Debug)]
struct Kind {
    logged: Instant,
    unlogged: u64,
}

impl Seldom {
    /// If one of this kind may be logged now, how many before it were not.
    #[must_use]
    pub fn now(&self, kind: &'static str) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some(known) = kinds.get_mut(kind) else {
            let logged = now;
            kinds.insert(
                kind,
                Kind {
                    logged,
                    unlogged: 0,
                },
            );
            return Some(0);
        };
        if now < known.logged + PAUSE {
            known.unlogged += 1;
            return None;
        }
        known.logged = now;
        Some(std::mem::take(&mut known.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_each_kind_one_is_logged_and_the_others_are_counted() {
        let seldom = Seldom::default();
        assert_eq!(seldom.now("a"), Some(0));
        assert_eq!((seldom.now("a"), seldom.now("a")), (None, None));
        assert_eq!(seldom.now("b"), Some(0));
        tokio::time::advance(PAUSE).await;
        assert_eq!((seldom.now("a"), seldom.now("b")), (Some(2), Some(0)));
    }
}
