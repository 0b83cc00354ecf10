//! The word of each RPC's end, for the application's own metrics.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::Code;

use crate::endpoint::Address;

/// How one RPC ended, for [`Builder::on_call_end`](crate::Builder::on_call_end).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FinishedCall<'a> {
    /// The method, as `/package.Service/Method`. The application's own, so that there
    /// are as many as its stubs have.
    pub method: &'a str,
    /// The backend that it was sent to last; `None` if it was not sent.
    pub backend: Option<&'a Address>,
    /// The gRPC code that the application got; CANCELLED if it let go of the RPC before
    /// its end.
    pub code: Code,
    /// From the call to the end of its response, with all waiting and all retries.
    pub latency: Duration,
}

/// What is told of each RPC's end.
#[derive(Clone)]
pub(crate) struct Hook(Arc<dyn Fn(&FinishedCall<'_>) + Send + Sync>);

impl Hook {
    pub(crate) fn new(hook: impl Fn(&FinishedCall<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    pub(crate) fn call(&self, call: &FinishedCall<'_>) {
        (self.0)(call);
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
