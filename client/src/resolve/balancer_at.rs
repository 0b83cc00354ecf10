//! A balancer whose address is given, for where DNS is not to be asked for one.

use std::net::{IpAddr, SocketAddr};

use futures_util::stream;
use tokio::time::timeout;

use super::dns::LOOK_TIMEOUT;
use super::listed::Hosts;
use super::schedule::LookupSchedule;
use super::{BalancerAddress, Dns, Reresolve, Resolution, ResolutionStream, Resolve};
use crate::endpoint::Endpoint;
use crate::error::ResolveError;
use crate::target::Target;

/// Knows the balancer's host and port; only the host, if it is a name, is looked
/// up, with the system's servers, and so are names among the fallback.
#[derive(Debug)]
pub struct BalancerAt {
    look: Lookup,
    dns: Dns,
}

impl BalancerAt {
    /// The balancer `host:port` for the service `target`, whose own addresses, if
    /// it lists some, are the fallback.
    ///
    /// # Errors
    /// As [`Dns::system`].
    pub fn new(host: String, port: u16, target: &Target) -> Result<Self, ResolveError> {
        let (addresses, names): (&[_], &[_]) = match target {
            Target::Static(addresses) => (addresses, &[]),
            Target::Listed(hosts) => (&[], hosts),
            Target::Dns { .. } => (&[], &[]),
        };
        Ok(Self {
            look: Lookup {
                host,
                port,
                addresses: addresses.iter().cloned().map(Endpoint::new).collect(),
                names: Hosts::new(names),
            },
            dns: Dns::system()?,
        })
    }
}

impl Resolve for BalancerAt {
    fn resolve(&mut self, reresolve: Reresolve) -> ResolutionStream {
        let (look, dns) = (self.look.clone(), self.dns.clone());
        let pace = LookupSchedule::new(fastrand::Rng::new());
        let looks = stream::unfold((look, pace, None), move |(mut look, mut pace, good)| {
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

#[derive(Debug, Clone)]
struct Lookup {
    host: String,
    port: u16,
    /// The fallback.
    addresses: Vec<Endpoint>,
    names: Hosts,
}

impl Lookup {
    async fn look(&mut self, dns: &Dns) -> Result<Resolution, ResolveError> {
        // Fallback addresses that cannot be found are logged, and hold up no balancer.
        let (ips, _) = tokio::join!(
            timeout(LOOK_TIMEOUT, dns.ips(&self.host)),
            self.names.look(dns)
        );
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
        let fallback = [&self.addresses[..], &self.names.endpoints()].concat();
        Resolution::from(fallback).with_balancers(balancers)
    }
}
