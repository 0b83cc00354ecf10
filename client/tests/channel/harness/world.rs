//! Balancer, backends, names and network of one channel, all in memory, for
//! tests that own the clock.

use std::net::SocketAddr;
use std::time::Duration;

use lookaside_client::endpoint::Endpoint;
use lookaside_client::resolve::Resolution;
use lookaside_client::{Builder, Channel};
use tokio::time::Instant;

use super::names::{NamesResolver, balancer as named};
use super::wait::Paused;
use super::{Backend, Balancer, Names, Net};

/// What is around the channel. The test must run with the clock paused.
pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) names: Names,
    pub(crate) balancer: Balancer,
    resolver: Option<NamesResolver>,
    start: Instant,
    _paused: Paused,
}

impl World {
    /// A balancer and nothing else.
    pub(crate) fn new() -> Self {
        let net = Net::default();
        let (names, resolver) = Names::new();
        let addr = net.address();
        Self {
            balancer: Balancer::in_memory(&net, addr),
            net,
            names,
            resolver: Some(resolver),
            start: Instant::now(),
            _paused: Paused::new(),
        }
    }

    pub(crate) fn backend(&self, name: &str) -> Backend {
        self.backend_at(name, self.net.address())
    }

    pub(crate) fn backend_at(&self, name: &str, addr: SocketAddr) -> Backend {
        Backend::in_memory(&self.net, name, addr)
    }

    pub(crate) fn backends<const N: usize>(&self, names: [&str; N]) -> [Backend; N] {
        names.map(|name| self.backend(name))
    }

    /// A channel that follows the balancer, with these fallback addresses.
    pub(crate) fn follow(&mut self, fallback: &[&Backend]) -> Channel {
        self.follow_with(fallback, |builder| builder)
    }

    pub(crate) fn follow_with(
        &mut self,
        fallback: &[&Backend],
        set: impl FnOnce(Builder) -> Builder,
    ) -> Channel {
        let fallback: Vec<_> = fallback.iter().map(|backend| backend.addr).collect();
        self.names.balancers(&[self.balancer.addr], &fallback);
        self.channel_with(set)
    }

    /// A channel whose names the test still has to say.
    pub(crate) fn channel_with(&mut self, set: impl FnOnce(Builder) -> Builder) -> Channel {
        let builder = Channel::builder("test:///greeter.test:50051")
            .resolver(self.resolver.take().unwrap())
            .connector(self.net.clone())
            // Days pass here between two RPCs.
            .idle_timeout(None);
        set(builder).connect_lazy().unwrap()
    }

    /// The balancer, these fallback addresses, and `policies` as the service config's
    /// `loadBalancingConfig`.
    pub(crate) fn configure(&self, policies: &str, fallback: &[&Backend]) {
        let known =
            Resolution::default().with_balancers(vec![named(self.balancer.addr, "lb.test")]);
        self.resolve(known, policies, fallback);
    }

    pub(crate) fn configure_without_balancer(&self, policies: &str, addresses: &[&Backend]) {
        self.resolve(Resolution::default(), policies, addresses);
    }

    fn resolve(&self, mut known: Resolution, policies: &str, fallback: &[&Backend]) {
        let config = format!(r#"{{"loadBalancingConfig": [{policies}]}}"#);
        known.endpoints = fallback.iter().map(|b| Endpoint::from(b.addr)).collect();
        let known = known.with_service_config(config.parse().unwrap());
        self.names.answer(Ok(known));
    }

    /// The balancer again, where it was.
    pub(crate) fn restart_balancer(&mut self) {
        let addr = self.balancer.addr;
        self.balancer.kill();
        self.balancer = Balancer::in_memory(&self.net, addr);
    }

    /// Lets everything happen that can without time passing: the paused clock
    /// moves only when nothing else does.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }

    /// Seconds since the test began.
    pub(crate) fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// When the client tried to connect to `addr`, in seconds since the test began.
    pub(crate) fn dials(&self, addr: SocketAddr) -> Vec<f64> {
        let dials = self.net.dials(addr).into_iter();
        dials.map(|at| (at - self.start).as_secs_f64()).collect()
    }
}
