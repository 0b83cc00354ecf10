//! What is the same for the names of all services.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;

use crate::config::DnsConfig;

/// What is the same for all services.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ZoneSettings {
    ttl: u32,
    target: Option<Name>,
    service_config: bool,
    balancers: Vec<Balancers>,
    responses_per_second: u32,
    tcp_connections: u32,
}

/// The balancers that listen on one port. They share an SRV target.
#[derive(Debug, Clone, PartialEq, Hash)]
pub(super) struct Balancers {
    pub(super) port: u16,
    pub(super) ips: Vec<IpAddr>,
}

/// The configured SRV target is not a name that DNS can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the SRV target `{0}` is not a DNS name; write labels of 1 to 63 bytes with dots between them, e.g. lb.example.com"
)]
pub struct BadTarget(String);

impl ZoneSettings {
    /// From the configuration. `advertise` are the addresses of all balancers;
    /// those that share a port share an SRV target.
    ///
    /// # Errors
    /// If the configured target is not a DNS name, or does not leave room for the
    /// number that tells the second port from the first.
    pub fn new(config: &DnsConfig, advertise: &[SocketAddr]) -> Result<Self, BadTarget> {
        let mut balancers: Vec<Balancers> = Vec::new();
        for addr in advertise {
            let (ip, port) = (addr.ip().to_canonical(), addr.port());
            match balancers.iter_mut().find(|b| b.port == port) {
                Some(known) if known.ips.contains(&ip) => {}
                Some(known) => known.ips.push(ip),
                None => balancers.push(Balancers {
                    port,
                    ips: vec![ip],
                }),
            }
        }
        let bad = |text: &String| BadTarget(text.clone());
        let target = match &config.target {
            Some(text) => {
                let target = parse(text.trim_end_matches('.')).ok_or_else(|| bad(text))?;
                if targets(&target, balancers.len()).len() < balancers.len() {
                    return Err(bad(text));
                }
                Some(target)
            }
            None => None,
        };
        Ok(Self {
            ttl: whole_seconds(config.ttl),
            target,
            service_config: config.service_config,
            balancers,
            responses_per_second: config.responses_per_second,
            tcp_connections: config.tcp_connections,
        })
    }

    /// Time to live of every record, in seconds.
    pub(super) fn ttl(&self) -> u32 {
        self.ttl
    }

    pub(super) fn balancers(&self) -> &[Balancers] {
        &self.balancers
    }

    /// UDP answers that a network gets in a second; 0 is no limit.
    pub(super) fn responses_per_second(&self) -> u32 {
        self.responses_per_second
    }

    /// Most TCP connections at a time.
    pub(super) fn tcp_connections(&self) -> usize {
        usize::try_from(self.tcp_connections).unwrap_or(usize::MAX)
    }

    /// Hashes what records are made from.
    pub(super) fn hash_content(&self, hasher: &mut impl Hasher) {
        self.ttl.hash(hasher);
        self.target.hash(hasher);
        self.service_config.hash(hasher);
        self.balancers.hash(hasher);
    }

    /// Whether a service config is answered.
    pub(super) fn service_config(&self) -> bool {
        self.service_config
    }

    /// The SRV targets that all services share, one for each port; `None` if
    /// each service has its own.
    pub(super) fn shared_targets(&self) -> Option<Arc<[Name]>> {
        let target = self.target.as_ref()?;
        Some(targets(target, self.balancers.len()))
    }

    /// The SRV targets of a service at `host`, if they are its own. None if no
    /// name has room for them.
    pub(super) fn targets_below(&self, host: &Name) -> Arc<[Name]> {
        let target = host.prepend_label("lb");
        target.map_or_else(
            |_| Arc::from([]),
            |name| targets(&name, self.balancers.len()),
        )
    }
}

/// `name`, and for further ports `name` with a number behind its first label.
/// Fewer than `count` if a label grows too long.
fn targets(name: &Name, count: usize) -> Arc<[Name]> {
    let first = name.iter().next().unwrap_or_default();
    let numbered = (2..=count).map_while(|number| {
        let label = [first, number.to_string().as_bytes()].concat();
        let rest = name.iter().skip(1).map(<[u8]>::to_vec);
        Name::from_labels(std::iter::once(label).chain(rest)).ok()
    });
    std::iter::once(name.clone())
        .chain(numbered)
        .take(count)
        .collect()
}

/// A name of such labels; `None` if DNS cannot hold it.
pub(super) fn parse(host: &str) -> Option<Name> {
    Name::from_labels(host.split('.').map(str::as_bytes)).ok()
}

/// Seconds of a time to live, rounded up: 0 would forbid every cache. At most
/// what DNS can say (RFC 2181 §8).
fn whole_seconds(ttl: Duration) -> u32 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    u32::try_from(seconds).map_or(MAX_TTL, |seconds| seconds.min(MAX_TTL))
}

const MAX_TTL: u32 = i32::MAX as u32;
