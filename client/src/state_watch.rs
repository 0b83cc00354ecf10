//! A channel's state, as it changes.

use tokio::sync::watch;

use crate::control::Progress;
use crate::endpoint::ConnectivityState;

/// Follows the state of a channel, from
/// [`Channel::watch_state`](crate::Channel::watch_state).
///
/// ```no_run
/// # async fn example(channel: lookaside_client::Channel) {
/// let mut states = channel.watch_state();
/// while let Some(state) = states.changed().await {
///     println!("{state:?}");
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StateWatch {
    progress: watch::Receiver<Progress>,
    /// The state that was last told.
    told: ConnectivityState,
}

impl StateWatch {
    pub(crate) fn new(progress: watch::Receiver<Progress>) -> Self {
        let told = progress.borrow().state;
        Self { progress, told }
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> ConnectivityState {
        self.progress.borrow().state
    }

    /// Waits until the state is another than the one last seen: at first the one at
    /// the time of [`Channel::watch_state`](crate::Channel::watch_state). States that
    /// came and went in between are passed over. `None` after
    /// [`ConnectivityState::Shutdown`], which is the last.
    pub async fn changed(&mut self) -> Option<ConnectivityState> {
        let told = self.told;
        if told == ConnectivityState::Shutdown {
            return None;
        }
        let other = self
            .progress
            .wait_for(|progress| progress.state != told)
            .await;
        self.told = match other {
            Ok(progress) => progress.state,
            Err(_) => ConnectivityState::Shutdown,
        };
        Some(self.told)
    }
}
