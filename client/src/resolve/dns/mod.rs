//! Addresses from DNS: A and AAAA of the host; beside them SRV
//! `_grpclb._tcp.<host>`, which names balancers (gRFC A5), and, if asked for, TXT
//! `_grpc_config.<host>`, which carries a service config (gRFC A2).
//!
//! No query holds up another for long: what is known is passed on, and what comes
//! later follows. (A process-wide SRV query in front of every lookup is why
//! Google's own clients dropped grpclb.) But a service that has a balancer is not
//! called past it: the first addresses wait for a moment. What cannot be found out changes
//! nothing: addresses, balancers and service config stay what they were, also
//! where the servers say that the name is gone.
//!
//! | | how long, how often |
//! |---|---|
//! | one query | 5 s until the next server is asked, or the same again, twice each: a dead server that is alone costs 10 s (the system's `timeout` and `attempts`); an answer that is late counts |
//! | a server that was silent, where there are others | 1 s, for a minute |
//! | A or AAAA, once the other has addresses | 500 ms more |
//! | one balancer's address, once another's is there | 500 ms until that is passed on |
//! | one look, with all its queries | 30 s |
//! | addresses, while it is not known whether there is a balancer | held back 500 ms |
//! | addresses, while there is a balancer and it is not known where | held back 10 s |
//! | looks that answered all | on request, at most every 24 to 30 s; an early request waits; with [`DnsResolver::refresh_by_ttl`] by TTL too |
//! | looks that did not | gRPC's connection backoff, 1 s to 120 s |
//!
//! Of an SRV answer the first 32 records count, by priority and, within one, in
//! random order by weight (RFC 2782). `localhost` and IP literals get neither SRV
//! nor TXT queries (gRFC A10).

mod answers;
mod balancers;
mod client;
mod hosts;
mod look;
mod records;
mod search;
mod server_choice;
mod servers;
mod srv;
mod system;
mod transport;

use std::net::{IpAddr, SocketAddr};

use futures_util::{StreamExt as _, future, stream};
use tokio::sync::mpsc;

pub use self::client::Dns;
pub(super) use self::look::LOOK_TIMEOUT;
use self::look::{Client, Looks, Lookup};
pub use self::srv::SrvTarget;
use super::{FixedResolver, Reresolve, ResolutionStream, Resolve};
use crate::endpoint::Endpoint;
use crate::target::DEFAULT_PORT;

/// Resolves a `dns:` target.
#[derive(Debug)]
pub struct DnsResolver {
    dns: Dns,
    host: String,
    port: u16,
    srv: bool,
    txt: Option<Client>,
    by_ttl: bool,
}

impl DnsResolver {
    /// A resolver for `host`, whose backends listen on `port` (443 if the target
    /// names none).
    #[must_use]
    pub fn new(dns: Dns, host: &str, port: Option<u16>) -> Self {
        Self {
            dns,
            host: host.to_owned(),
            port: port.unwrap_or(DEFAULT_PORT),
            srv: !is_local(host),
            txt: None,
            by_ttl: false,
        }
    }

    /// Whether to look again without being asked: when the TTL of what was found is
    /// over, but no more often than every 2 s and no more rarely than every 30 s, each
    /// less up to a fifth. Off unless asked for.
    #[must_use]
    pub fn refresh_by_ttl(mut self, refresh: bool) -> Self {
        self.by_ttl = refresh;
        self
    }

    /// Whether to look for a service config in the TXT records of
    /// `_grpc_config.<host>`; off unless asked for. See
    /// [`ServiceConfig::from_txt`](crate::service_config::ServiceConfig::from_txt)
    /// for what stands there. Of a choice by percentage a resolver gets the same
    /// for as long as it lives.
    #[must_use]
    pub fn txt_service_config(mut self, look: bool) -> Self {
        self.txt = (look && !is_local(&self.host)).then(|| Client {
            hostname: hostname(),
            seed: fastrand::u64(..),
        });
        self
    }
}

/// What this machine calls itself; empty if it does not say.
fn hostname() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let told = told.or_else(|_| std::env::var("HOSTNAME").map_err(std::io::Error::other));
    told.unwrap_or_default().trim().to_owned()
}

/// Whether there is nothing in DNS about `host`.
fn is_local(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok() || hosts::loopback(host).is_some()
}

impl Resolve for DnsResolver {
    fn resolve(&mut self, reresolve: Reresolve) -> ResolutionStream {
        if let Ok(ip) = self.host.parse() {
            let only = Endpoint::new(SocketAddr::new(ip, self.port));
            return FixedResolver::new(vec![only].into()).resolve(reresolve);
        }
        let looks = Looks {
            lookup: self.dns.clone(),
            host: self.host.clone(),
            port: self.port,
            srv: self.srv,
            txt: self.txt.clone(),
            by_ttl: self.by_ttl,
            rng: fastrand::Rng::new(),
        };
        run(looks, reresolve)
    }
}

/// The results of `looks`. The stream drives them itself: no task to leave behind.
fn run<L: Lookup>(looks: Looks<L>, reresolve: Reresolve) -> ResolutionStream {
    let (found, results) = mpsc::channel(1);
    let work = stream::once(looks.run(reresolve, found)).filter_map(|()| future::ready(None));
    let results = tokio_stream::wrappers::ReceiverStream::new(results);
    Box::pin(stream::select(results, work))
}

#[cfg(test)]
mod tests;
