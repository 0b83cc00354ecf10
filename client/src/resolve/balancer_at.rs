//! A balancer whose address is given, for where DNS is not to be asked for one.

use std::net::{IpAddr, SocketAddr};

use futures_util::stream;
use tokio::time::{Instant, sleep_until};

use super::{BalancerAddress, Balancers, Dns, Reresolve, Resolution, ResolutionStream, Resolve};
use crate::backoff::Backoff;
use crate::endpoint::Endpoint;
use crate::error::ResolveError;
use crate::resolve::dns::MIN_INTERVAL;
use crate::target::Target;

/// Knows the balancer's host and port; only the host, if it is a name, is looked
/// up, with the system's servers.
#[derive(Debug)]
pub struct BalancerAt {
    host: String,
    port: u16,
    /// To look up the host; none if it is an address.
    dns: Option<Dns>,
    endpoints: Vec<Endpoint>,
}

impl BalancerAt {
    /// The balancer `host:port` for the service `target`, whose own addresses, if
    /// it lists some, are the fallback.
    ///
    /// # Errors
    /// If the host is to be looked up and the system's DNS configuration cannot be
    /// read.
    pub fn new(host: String, port: u16, target: &Target) -> Result<Self, ResolveError> {
        let dns = match host.parse::<IpAddr>() {
            Ok(_) => None,
            Err(_) => Some(Dns::system()?),
        };
        let endpoints = match target {
            Target::Static(addresses) => addresses.iter().cloned().map(Endpoint::new).collect(),
            Target::Dns { .. } => vec![],
        };
        Ok(Self {
            host,
            port,
            dns,
            endpoints,
        })
    }
}

impl Resolve for BalancerAt {
    fn resolve(&mut self, reresolve: Reresolve) -> ResolutionStream {
        let look = Look {
            host: self.host.clone(),
            port: self.port,
            dns: self.dns.clone(),
            endpoints: self.endpoints.clone(),
            next: None,
            backoff: Backoff::default(),
            rng: fastrand::Rng::new(),
            failed: false,
        };
        Box::pin(stream::unfold(look, move |mut look| {
            let reresolve = reresolve.clone();
            async move {
                look.pause(&reresolve).await;
                Some((look.look().await, look))
            }
        }))
    }
}

struct Look {
    host: String,
    port: u16,
    dns: Option<Dns>,
    endpoints: Vec<Endpoint>,
    /// Earliest time of the next look; none before the first.
    next: Option<Instant>,
    backoff: Backoff,
    rng: fastrand::Rng,
    failed: bool,
}

impl Look {
    async fn pause(&mut self, reresolve: &Reresolve) {
        let Some(next) = self.next else {
            return;
        };
        if self.failed {
            tokio::time::sleep(self.backoff.next_delay(&mut self.rng)).await;
            return;
        }
        self.backoff.reset();
        reresolve.requested().await;
        sleep_until(next).await;
    }

    async fn look(&mut self) -> Result<Resolution, ResolveError> {
        self.next = Some(Instant::now() + MIN_INTERVAL);
        let ips = match (&self.dns, self.host.parse()) {
            (None, Ok(ip)) => vec![ip],
            (Some(dns), _) => {
                let ips = dns.ips(&self.host).await;
                self.failed = !matches!(&ips, Ok(ips) if !ips.is_empty());
                ips?
            }
            (None, Err(_)) => vec![],
        };
        if ips.is_empty() {
            let host = &self.host;
            return Err(ResolveError(format!("balancer {host} has no addresses")));
        }
        let balancer = |ip| BalancerAddress {
            addr: SocketAddr::new(ip, self.port),
            authority: self.host.clone(),
        };
        Ok(Resolution {
            endpoints: self.endpoints.clone(),
            balancers: Balancers::Known(ips.into_iter().map(balancer).collect()),
            service_config: None,
        })
    }
}
