//! Tasks that must not end by a fault.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::sleep;

/// Pause before a failed task is started again; doubles up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What [`restarting`] runs.
pub trait Task {
    /// Runs until there is nothing more to do.
    fn run(&mut self) -> impl Future<Output = ()> + Send;

    /// A run panicked; the next begins after `restart_in`.
    fn failed(&mut self, restart_in: Duration);
}

/// Runs a task to its end; after a panic again, after a pause that doubles from one
/// second to one minute.
pub async fn restarting(task: &mut impl Task) {
    let (mut pause, longest) = BACKOFF;
    while AssertUnwindSafe(task.run()).catch_unwind().await.is_err() {
        task.failed(pause);
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    struct Failing {
        runs: u32,
        pauses: Vec<u64>,
    }

    impl Task for Failing {
        async fn run(&mut self) {
            self.runs += 1;
            assert!(self.runs > 8, "fails on purpose");
        }

        fn failed(&mut self, restart_in: Duration) {
            self.pauses.push(restart_in.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_is_started_again_ever_more_slowly() {
        let began = Instant::now();
        let mut task = Failing {
            runs: 0,
            pauses: Vec::new(),
        };
        restarting(&mut task).await;
        assert_eq!(task.pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(began.elapsed().as_secs(), task.pauses.iter().sum::<u64>());
    }
}
