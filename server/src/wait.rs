//! Waits that an `async` block in a `select!` needs again and again: for what may
//! never come, and for as long as somebody could have been heard.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

/// Parts that a limit is counted in.
const PARTS: u32 = 10;

/// Waits until `due`; for ever, if nothing is.
pub async fn until(due: Option<Instant>) {
    if_any(due.map(sleep_until)).await;
}

/// What `future` comes to; waits for ever, if there is none.
pub async fn if_any<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// What `future` comes to within `limit`; `None` if it does not.
///
/// Of a time in which nothing was run here, only a tenth of the limit counts. What a
/// peer sent then waits in a queue of ours: it is heard before the peer is called
/// late, however busy this process or its machine is.
pub async fn while_heard<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..PARTS {
        if let Ok(output) = timeout(limit / PARTS, future.as_mut()).await {
            return Some(output);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::oneshot;
    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_waited_for_without_end() {
        let began = Instant::now();
        until(Some(began + Duration::from_secs(3))).await;
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        assert_eq!(if_any(Some(ready(7))).await, 7);
        let day = Duration::from_secs(86_400);
        assert!(timeout(day, until(None)).await.is_err());
        let none = None::<std::future::Ready<()>>;
        assert!(timeout(day, if_any(none)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_waited_for_no_longer_than_the_limit() {
        let began = Instant::now();
        let limit = Duration::from_secs(5);
        assert!(while_heard(limit, pending::<()>()).await.is_none());
        // Each part ends with a tick of the clock, of a millisecond.
        assert!(began.elapsed() >= limit);
        assert!(began.elapsed() <= limit + Duration::from_millis(20));
        let late = sleep(Duration::from_millis(4900));
        assert!(while_heard(limit, late).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_not_read_is_not_late() {
        let limit = Duration::from_secs(5);
        let (tell, told) = oneshot::channel();
        let read = tokio::spawn(async move { while_heard(limit, told).await });
        tokio::task::yield_now().await;
        // What reads has been stopped for longer than the limit.
        advance(limit * 4).await;
        tokio::task::yield_now().await;
        tell.send(()).unwrap();
        assert_eq!(read.await.unwrap(), Some(Ok(())));
    }
}
