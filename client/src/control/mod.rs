//! The channel's control task: the one place where resolver, balancer and
//! subchannels meet. It owns all of them, so nothing here is locked; RPCs see
//! only what it publishes.

mod balancing;
mod methods;
mod published;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::balancing::Balancing;
pub(crate) use self::balancing::{MakePolicy, Recipe};
pub(crate) use self::methods::{Methods, Throttle};
pub(crate) use self::published::{Progress, Published};
use crate::endpoint::ConnectivityState;
use crate::error::ResolveError;
use crate::policy::Output;
use crate::resolve::{Reresolve, Resolution, ResolutionStream, Resolve};
use crate::subchannel::Pool;
use crate::until::{after, until};

/// How often to ask the resolver for news where they are of use though all is well;
/// it takes up to 30 s to follow.
const NEWS: Duration = Duration::from_secs(24);

/// What the control task starts with.
pub(crate) struct Control {
    pub(crate) resolver: Box<dyn Resolve>,
    pub(crate) recipe: Recipe,
    pub(crate) pool: Pool,
    /// How long the channel may be unused before it lets go of everything.
    pub(crate) idle_timeout: Option<Duration>,
}

impl Control {
    /// Runs until it is dropped, which RPCs hear of also if it never began to run.
    pub(crate) fn run(self, published: Arc<Published>) -> impl Future<Output = ()> + Send {
        let ending = Ending(Arc::clone(&published));
        async move {
            self.balance(&published).await;
            drop(ending);
        }
    }

    async fn balance(mut self, published: &Published) {
        let mut balancing = Balancing::new();
        loop {
            self.work(&mut balancing, published).await;
            tracing::debug!("nobody uses the channel: it is idle from now on");
            balancing.rest(published.idle());
            published.publish(balancing.output(), true, balancing.lists_followed());
            self.rest(published).await;
            balancing.start();
            published.publish(balancing.output(), false, balancing.lists_followed());
        }
    }

    /// Resolves, balances and connects for as long as somebody uses the channel.
    async fn work(&mut self, balancing: &mut Balancing, published: &Published) {
        let reresolve = Reresolve::default();
        let mut resolutions = self.resolver.resolve(reresolve.clone());
        let mut complete = false;
        let connecting = Output::connecting();
        let mut use_ = Use::new(self.idle_timeout);
        let mut news_at = Instant::now() + NEWS;
        let mut ended = false;
        // The resolver's last word, if that was an error.
        let mut last = None;
        loop {
            let news = balancing.wants_news(&self.recipe).then_some(news_at);
            tokio::select! {
                resolution = next(&mut resolutions), if !ended => {
                    let resolution = resolution.unwrap_or_else(|| {
                        ended = true;
                        Err(ResolveError(match &last {
                            Some(error) => format!("{error}; the resolver has ended"),
                            None => "the resolver has ended".to_owned(),
                        }))
                    });
                    last = resolution.as_ref().err().map(ToString::to_string);
                    let partial = matches!(&resolution, Ok(r) if r.pending);
                    complete |= !partial;
                    self.resolved(balancing, resolution);
                }
                () = self.pool.changed() => balancing.refresh(&mut self.pool),
                () = until(balancing.next_due()) => balancing.refresh(&mut self.pool),
                () = until(balancing.held_until()) => {
                    balancing.release(&mut self.recipe, &mut self.pool);
                }
                event = balancing.event() => {
                    if event.is_loss() {
                        reresolve.request();
                    }
                    balancing.handle(event, &mut self.pool);
                }
                () = until(news) => {
                    news_at = Instant::now() + NEWS;
                    reresolve.request();
                }
                () = until(use_.check_at) => {
                    if use_.is_over(published) {
                        return;
                    }
                }
            }
            if self.pool.take_losses() && balancing.uses_resolved() {
                reresolve.request();
            }
            published.configure(balancing.service_config());
            let output = match balancing.output() {
                // The resolver has more to say, and it may be a balancer: RPCs wait
                // for that rather than fail for want of it.
                failing if !complete && failing.state == ConnectivityState::TransientFailure => {
                    connecting.clone()
                }
                output => output,
            };
            log(&output, published.output().state);
            let settled = complete && balancing.is_settled();
            published.publish(output, settled, balancing.lists_followed());
        }
    }

    /// Waits until somebody uses the channel; connections end meanwhile.
    async fn rest(&mut self, published: &Published) {
        loop {
            tokio::select! {
                () = published.wanted() => return,
                () = self.pool.changed() => {}
            }
        }
    }

    fn resolved(
        &mut self,
        balancing: &mut Balancing,
        resolution: Result<Resolution, ResolveError>,
    ) {
        match resolution {
            Ok(resolution) => balancing.follow(resolution, &mut self.recipe, &mut self.pool),
            Err(error) => {
                if let Some(remembered) = balancing.remembered() {
                    tracing::warn!(%error, "using the balancers known from before");
                    balancing.follow(remembered, &mut self.recipe, &mut self.pool);
                } else if !balancing.fail(&error) {
                    tracing::warn!(%error, "still using the known addresses");
                }
            }
        }
    }
}

/// Whether anybody uses the channel.
struct Use {
    timeout: Option<Duration>,
    check_at: Option<Instant>,
    /// RPCs that had been made at the last check.
    calls: u64,
}

impl Use {
    fn new(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            check_at: timeout.and_then(after),
            calls: 0,
        }
    }

    /// Whether there was no RPC since the last check, and none is under way.
    fn is_over(&mut self, published: &Published) -> bool {
        let metrics = published.metrics();
        // In this order: an RPC that ends in between counts as under way.
        let finished = metrics.finished.sum();
        let picks = metrics.picks.sum();
        let calls = picks + metrics.drops.sum() + metrics.failed_picks.sum();
        let over = picks == finished && calls == self.calls;
        self.calls = calls;
        self.check_at = self.timeout.and_then(after);
        over
    }
}

/// Once per change, not once per RPC that fails.
fn log(output: &Output, before: ConnectivityState) {
    if output.state == before {
        return;
    }
    let state = output.state;
    match output.picker.failure() {
        Some(reason) => tracing::warn!(?state, reason, "channel"),
        // Whoever read of the failure wants to read of its end.
        None if before == ConnectivityState::TransientFailure => {
            tracing::info!(?state, "channel");
        }
        None => tracing::debug!(?state, "channel"),
    }
}

/// Fails what still waits when the task ends, so that nobody waits for ever.
struct Ending(Arc<Published>);

impl Drop for Ending {
    fn drop(&mut self) {
        let output = Output {
            state: ConnectivityState::Shutdown,
            ..Output::failure("the channel has been shut down")
        };
        let lists = self.0.lists_followed();
        self.0.publish(output, true, lists);
    }
}

/// The next resolution; none once the resolver has ended.
async fn next(stream: &mut ResolutionStream) -> Option<Result<Resolution, ResolveError>> {
    poll_fn(|cx| stream.as_mut().poll_next(cx)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn a_channel_is_in_use_while_rpcs_begin_or_are_under_way() {
        let published = Published::new(Arc::<Metrics>::default(), None);
        let metrics = published.metrics();
        let timeout = Duration::from_secs(60);
        let mut use_ = Use::new(Some(timeout));
        metrics.picks.add_one();
        assert!(!use_.is_over(&published), "one is under way");
        assert!(!use_.is_over(&published), "it still is");
        metrics.finished.add_one();
        assert!(use_.is_over(&published));
        metrics.failed_picks.add_one();
        assert!(!use_.is_over(&published), "one has been tried");
        assert!(use_.is_over(&published));
        metrics.drops.add_one();
        assert!(!use_.is_over(&published), "one has been dropped");
        assert!(use_.is_over(&published));
        assert_eq!(use_.check_at, Some(Instant::now() + timeout));
        assert_eq!(Use::new(None).check_at, None);
    }
}
