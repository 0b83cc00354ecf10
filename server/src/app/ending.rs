//! How parts of the balancer end.

use tokio::task::JoinError;

use super::{AppError, PORT, Parts};

type Ended = Result<(&'static str, Result<(), String>), JoinError>;

pub(super) fn ended_early(ended: Ended) -> AppError {
    let (part, reason) = match ended {
        Ok((part, Ok(()))) => (part, "no reason given".to_owned()),
        Ok((part, Err(reason))) => (part, reason),
        Err(error) => ("a part of the balancer", error.to_string()),
    };
    AppError::Ended { part, reason }
}

/// Waits until the port has ended, whatever else ends before it: parts that fail at the
/// end do not cut off the clients that are still there.
pub(super) async fn port_ended(parts: &mut Parts) -> Result<(), AppError> {
    let mut result = Ok(());
    while let Some(ended) = parts.join_next().await {
        // Of a part that panicked nobody knows which it was.
        let over = ended.as_ref().map_or(true, |(part, _)| *part == PORT);
        result = result.and_then(|()| part_ended(ended));
        if over {
            break;
        }
    }
    result
}

pub(super) fn part_ended(ended: Ended) -> Result<(), AppError> {
    match ended {
        Ok((_, Ok(()))) => Ok(()),
        failed => Err(ended_early(failed)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::app::spawn;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_the_port_whatever_ends_before_it() {
        let mut parts = Parts::new();
        spawn(&mut parts, "the DNS server", async { Ok::<_, String>(()) });
        spawn(&mut parts, "the keeper of state", async {
            Err("the disk is full")
        });
        spawn(&mut parts, PORT, async {
            sleep(Duration::from_secs(3)).await;
            Ok::<_, String>(())
        });
        let began = Instant::now();
        let ended = port_ended(&mut parts).await.unwrap_err().to_string();
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        assert!(ended.contains("the keeper of state"), "{ended}");
        assert!(ended.contains("the disk is full"), "{ended}");
    }
}
