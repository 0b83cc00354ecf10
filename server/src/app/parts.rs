//! The parts of the balancer: named tasks, of which the first to end ends the process.

use tokio::task::{JoinError, JoinSet};

use super::AppError;

/// The part that has the clients.
pub(super) const PORT: &str = "the balancer port";

/// Every task of the balancer.
#[derive(Debug, Default)]
pub(super) struct Parts(JoinSet<(&'static str, Result<(), String>)>);

type Ended = Result<(&'static str, Result<(), String>), JoinError>;

impl Parts {
    /// A part that may fail.
    pub(super) fn spawn<E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.0
            .spawn(async move { (name, part.await.map_err(|error| error.to_string())) });
    }

    /// A part that ends only when it should.
    pub(super) fn spawn_unfailing(
        &mut self,
        name: &'static str,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        self.0.spawn(async move {
            part.await;
            (name, Ok(()))
        });
    }

    /// Waits for a part to end that should not.
    pub(super) async fn failed(&mut self) -> AppError {
        match self.0.join_next().await {
            Some(ended) => error(ended),
            // There is always the port.
            None => std::future::pending().await,
        }
    }

    /// Waits until the port has ended, whatever else ends before it: parts that fail at
    /// the end do not cut off the clients that are still there.
    pub(super) async fn port_ended(&mut self) -> Result<(), AppError> {
        let mut result = Ok(());
        while let Some(ended) = self.0.join_next().await {
            // A part that panicked does not say which it was.
            let over = ended.as_ref().map_or(true, |(part, _)| *part == PORT);
            result = result.and_then(|()| well_ended(ended));
            if over {
                break;
            }
        }
        result
    }

    /// Waits until all have ended.
    pub(super) async fn all_ended(&mut self) -> Result<(), AppError> {
        let mut result = Ok(());
        while let Some(ended) = self.0.join_next().await {
            result = result.and_then(|()| well_ended(ended));
        }
        result
    }
}

fn well_ended(ended: Ended) -> Result<(), AppError> {
    match ended {
        Ok((_, Ok(()))) => Ok(()),
        failed => Err(error(failed)),
    }
}

fn error(ended: Ended) -> AppError {
    let (part, reason) = match ended {
        Ok((part, Ok(()))) => (part, "no reason given".to_owned()),
        Ok((part, Err(reason))) => (part, reason),
        Err(error) => ("a part of the balancer", error.to_string()),
    };
    AppError::Ended { part, reason }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_the_port_whatever_ends_before_it() {
        let mut parts = Parts::default();
        parts.spawn_unfailing("the DNS server", async {});
        parts.spawn("the keeper of state", async { Err("the disk is full") });
        parts.spawn_unfailing(PORT, sleep(Duration::from_secs(3)));
        let began = Instant::now();
        let ended = parts.port_ended().await.unwrap_err().to_string();
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        assert!(ended.contains("the keeper of state"), "{ended}");
        assert!(ended.contains("the disk is full"), "{ended}");
    }
}
