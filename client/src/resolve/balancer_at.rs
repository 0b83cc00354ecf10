//! A balancer whose address is given, for where DNS is not to be asked for one.

use std::net::{IpAddr, SocketAddr};

use futures_util::stream;
use tokio::time::timeout;

use super::dns::LOOK_TIMEOUT;
use super::pace::Pace;
use super::{
    BalancerAddress, Dns, FixedResolver, Reresolve, Resolution, ResolutionStream, Resolve,
};
use crate::endpoint::Endpoint;
use crate::error::ResolveError;
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
            endpoints: self.endpoints.clone(),
        };
        let Some(dns) = self.dns.clone() else {
            let ips = self.host.parse().into_iter().collect();
            return FixedResolver::new(look.resolution(ips)).resolve(reresolve);
        };
        let pace = Pace::new(fastrand::Rng::new());
        let looks = stream::unfold((look, pace, None), move |(look, mut pace, good)| {
            let (dns, reresolve) = (dns.clone(), reresolve.clone());
            async move {
                if let Some(good) = good {
                    pace.pause(good, &reresolve).await;
                }
                pace.begin();
                let result = look.look(&dns).await;
                let good = Some(result.is_ok());
                Some((result, (look, pace, good)))
            }
        });
        Box::pin(looks)
    }
}

struct Look {
    host: String,
    port: u16,
    endpoints: Vec<Endpoint>,
}

impl Look {
    async fn look(&self, dns: &Dns) -> Result<Resolution, ResolveError> {
        let ips = timeout(LOOK_TIMEOUT, dns.ips(&self.host)).await;
        let host = &self.host;
        match ips {
            Ok(Ok(ips)) if ips.is_empty() => Err(ResolveError(format!(
                "balancer {host} has no addresses in DNS, looked up {}",
                dns.asked()
            ))),
            Ok(Ok(ips)) => Ok(self.resolution(ips)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ResolveError(format!(
                "DNS lookup of {host} {}: no answer within {LOOK_TIMEOUT:?}",
                dns.asked()
            ))),
        }
    }

    fn resolution(&self, ips: Vec<IpAddr>) -> Resolution {
        let balancer = |ip| BalancerAddress {
            addr: SocketAddr::new(ip, self.port),
            authority: self.host.clone(),
        };
        let balancers = ips.into_iter().map(balancer).collect();
        Resolution::from(self.endpoints.clone()).with_balancers(balancers)
    }
}
