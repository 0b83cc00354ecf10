//! Hosts that a target lists by name: each is looked up, and nothing else is.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use futures_util::stream;
use tokio::time::timeout;

use super::dns::LOOK_TIMEOUT;
use super::schedule::LookupSchedule;
use super::{Dns, Reresolve, Resolution, ResolutionStream, Resolve};
use crate::endpoint::Endpoint;
use crate::error::ResolveError;

/// Looks up each host of a `static:` target that has names, with the system's
/// servers, and again every 24 to 30 s.
#[derive(Debug)]
pub(super) struct ListedResolver {
    hosts: Hosts,
    dns: Dns,
}

/// Hosts, and where each was found to be last.
#[derive(Debug, Clone)]
pub(super) struct Hosts(Vec<Host>);

#[derive(Debug, Clone)]
struct Host {
    name: String,
    port: u16,
    ips: Vec<IpAddr>,
}

impl ListedResolver {
    /// A resolver for hosts and ports.
    pub(super) fn new(dns: Dns, hosts: &[(String, u16)]) -> Self {
        Self {
            hosts: Hosts::new(hosts),
            dns,
        }
    }
}

impl Resolve for ListedResolver {
    fn resolve(&mut self, reresolve: Reresolve) -> ResolutionStream {
        let pace = LookupSchedule::new(fastrand::Rng::new());
        let begin = (self.hosts.clone(), pace, None);
        let dns = self.dns.clone();
        let looks = stream::unfold(begin, move |(mut hosts, mut pace, good)| {
            let (dns, reresolve) = (dns.clone(), reresolve.clone());
            async move {
                if let Some(good) = good {
                    pace.pause_for(None, good, &reresolve).await;
                }
                pace.begin();
                let looked = hosts.look(&dns).await;
                let good = Some(looked.is_ok());
                let result = match looked {
                    Err(error) if hosts.endpoints().is_empty() => Err(error),
                    _ => Ok(Resolution::from(hosts.endpoints())),
                };
                Some((result, (hosts, pace, good)))
            }
        });
        Box::pin(looks)
    }
}

impl Hosts {
    pub(super) fn new(hosts: &[(String, u16)]) -> Self {
        let host = |(name, port): &(String, u16)| Host {
            name: name.clone(),
            port: *port,
            ips: name.parse().into_iter().collect(),
        };
        Self(hosts.iter().map(host).collect())
    }

    /// Looks all of them up. One that cannot be found stays where it was.
    ///
    /// # Errors
    /// Why some could not be found.
    pub(super) async fn look(&mut self, dns: &Dns) -> Result<(), ResolveError> {
        let ips = self.0.iter().map(|host| async {
            let text = match timeout(LOOK_TIMEOUT, dns.ips(&host.name)).await {
                Ok(Ok(ips)) if !ips.is_empty() => return Ok(ips),
                Ok(Ok(_)) => format!("{} has no addresses in DNS", host.name),
                Ok(Err(error)) => error.0,
                Err(_) => format!("no answer within {LOOK_TIMEOUT:?} about {}", host.name),
            };
            Err(text)
        });
        let ips = join_all(ips).await;
        let mut faults = vec![];
        for (host, ips) in self.0.iter_mut().zip(ips) {
            match ips {
                Ok(ips) => host.ips = ips,
                Err(text) => faults.push(text),
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => {
                let text = faults.join("; ");
                tracing::warn!(reason = text, "not every host of the target is known");
                Err(ResolveError(text))
            }
        }
    }

    /// Where they are, in the target's order, each address once.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let mut endpoints: Vec<Endpoint> = vec![];
        for host in &self.0 {
            for ip in &host.ips {
                let endpoint = Endpoint::new(SocketAddr::new(*ip, host.port));
                if !endpoints.contains(&endpoint) {
                    endpoints.push(endpoint);
                }
            }
        }
        endpoints
    }
}
