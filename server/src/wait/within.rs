//! Patience that does not run out because we are slow ourselves.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// Into so many pieces patience is cut.
const PIECES: u32 = 10;

/// Timers are not finer than this on a machine that has anything else to do.
const PUNCTUAL: Duration = Duration::from_millis(5);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// It did not come in time.
    Timeout,
    /// It may have come: we were late ourselves, so that its absence says nothing.
    Late,
}

/// Waits for an answer. An answer passes through a few tasks that wait for their
/// turn, each as long as a timer does that fires late: so the time is measured in
/// pieces, and when one of them was late by as much as it is long, silence says
/// nothing. What we lose by being late is added to the time.
///
/// # Errors
/// [`NoAnswer`].
pub async fn within<F: Future>(patience: Duration, answer: F) -> Result<F::Output, NoAnswer> {
    let mut answer = std::pin::pin!(answer);
    let piece = patience / PIECES;
    let mut late = false;
    for _ in 0..PIECES {
        let end = Instant::now() + piece;
        if let Ok(answer) = timeout_at(end, answer.as_mut()).await {
            return Ok(answer);
        }
        late |= end.elapsed() > piece.max(PUNCTUAL);
    }
    Err(if late {
        NoAnswer::Late
    } else {
        NoAnswer::Timeout
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::yield_now;
    use tokio::time::{advance, sleep};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_in_time_is_silent() {
        let began = Instant::now();
        let silent = within(PATIENCE, pending::<()>()).await;
        assert_eq!(silent, Err(NoAnswer::Timeout));
        let taken = began.elapsed();
        assert!(taken >= PATIENCE && taken < PATIENCE * 2, "{taken:?}");
        assert_eq!(within(PATIENCE, ready(7)).await, Ok(7));
        let slow = sleep(PATIENCE - Duration::from_millis(50));
        assert_eq!(within(PATIENCE, slow).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_says_nothing_when_the_runtime_was_blocked() {
        let blocked = async {
            yield_now().await;
            // Nothing runs while the clock goes on.
            advance(Duration::from_secs(2)).await;
        };
        let (silent, ()) = tokio::join!(within(PATIENCE, pending::<()>()), blocked);
        assert_eq!(silent, Err(NoAnswer::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_came_while_the_runtime_was_blocked_counts() {
        let blocked = async {
            yield_now().await;
            advance(Duration::from_secs(2)).await;
        };
        // Once the runtime runs again it takes a moment to come through.
        let answer = async {
            sleep(Duration::from_secs(1)).await;
            sleep(Duration::from_millis(100)).await;
        };
        let (answered, ()) = tokio::join!(within(PATIENCE, answer), blocked);
        assert_eq!(answered, Ok(()));
    }
}
