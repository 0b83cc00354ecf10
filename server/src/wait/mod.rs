//! Waits that an `async` block in a `select!` needs again and again: for what may
//! never come, and for an answer for as long as it could have been heard.

mod restart;
mod within;

pub use restart::{Task, restarting};
pub use within::{NoAnswer, within};

use tokio::time::{Instant, sleep_until};

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

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::time::Duration;

    use tokio::time::timeout;

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
}
