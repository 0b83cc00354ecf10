//! What is said in each call, and told of it.

use super::Builder;
use crate::metrics::{FinishedCall, Hook};

impl Builder {
    /// Puts `user_agent` in front of this crate's own.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = Some(user_agent.into());
        self
    }

    /// Calls `hook` at the end of each RPC, however that comes about, e.g. for
    /// Prometheus (`examples/src/bin/call_metrics.rs`). It runs where the RPC ends and must
    /// neither block nor panic. None by default, which costs nothing. What the channel
    /// counts itself is in [`Channel::metrics`](crate::Channel::metrics).
    pub fn on_call_end(mut self, hook: impl Fn(&FinishedCall<'_>) + Send + Sync + 'static) -> Self {
        self.hook = Some(Hook::new(hook));
        self
    }
}
