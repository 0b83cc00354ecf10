//! Addresses that never change: of `static:`, `ipv4:`, `ipv6:` and `unix:`
//! targets.

use futures_util::{StreamExt as _, stream};

use super::{Reresolve, Resolution, ResolutionStream, Resolve};

/// Yields one resolution, and then nothing more.
#[derive(Debug, Clone)]
pub struct FixedResolver(Resolution);

impl FixedResolver {
    /// A resolver that knows `resolution`.
    #[must_use]
    pub fn new(resolution: Resolution) -> Self {
        Self(resolution)
    }
}

impl Resolve for FixedResolver {
    fn resolve(&mut self, _reresolve: Reresolve) -> ResolutionStream {
        let only = stream::iter([Ok(self.0.clone())]);
        Box::pin(only.chain(stream::pending()))
    }
}
