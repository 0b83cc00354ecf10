//! Waits that end: by what was waited for, or by a panic that says what was.

use std::cell::Cell;
use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

use tokio::time::timeout;

/// How long a wait may take, and how often [`until`] may try.
#[derive(Clone, Copy)]
struct Limit {
    patience: Duration,
    attempts: usize,
}

/// On sockets.
const REAL: Limit = Limit {
    patience: Duration::from_secs(30),
    attempts: usize::MAX,
};

/// On a paused clock: longer than any timer of the client, many times over. But no
/// attempt takes time there.
const PAUSED: Limit = Limit {
    patience: Duration::from_secs(24 * 3600),
    attempts: 10_000,
};

thread_local! {
    /// Of the test on this thread.
    static LIMIT: Cell<Limit> = const { Cell::new(REAL) };
}

/// While it lives, the waits of its thread are on a paused clock.
pub(super) struct Paused(());

impl Paused {
    pub(super) fn new() -> Self {
        LIMIT.set(PAUSED);
        Self(())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        LIMIT.set(REAL);
    }
}

/// Waits for `wait`, which is `what`.
#[track_caller]
pub(crate) fn within<F: Future, W: Display>(what: W, wait: F) -> impl Future<Output = F::Output> {
    let (at, Limit { patience, .. }) = (Location::caller(), LIMIT.get());
    async move {
        match timeout(patience, wait).await {
            Ok(output) => output,
            Err(_) => panic!("{at}: {what} did not come within {patience:?}"),
        }
    }
}

/// Tries until `holds` says that it has come to `what`.
#[track_caller]
pub(crate) fn until(
    what: impl Display,
    mut holds: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let (at, Limit { patience, attempts }) = (Location::caller(), LIMIT.get());
    async move {
        let tries = async {
            for _ in 0..attempts {
                if holds().await {
                    return;
                }
                tokio::task::yield_now().await;
            }
            panic!("{at}: {what} did not come in {attempts} attempts");
        };
        // Around all of them: one attempt may wait for ever.
        if timeout(patience, tries).await.is_err() {
            panic!("{at}: {what} did not come within {patience:?}");
        }
    }
}
