//! Which names there are, and what stands at each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};

use crate::config::DnsConfig;
use crate::model::ServiceName;

/// Every name that is answered for. Built anew when the services change.
#[derive(Debug)]
pub struct Zone {
    settings: Arc<ZoneSettings>,
    /// By name in lower case, in wire form without the root. Every ancestor of
    /// a name is here too, as a node at which nothing stands: below it names
    /// exist, so it must not be denied.
    nodes: HashMap<Box<[u8]>, Node>,
}

/// What is the same for all services.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ZoneSettings {
    ttl: u32,
    target: Option<Name>,
    service_config: bool,
    balancers: Vec<Balancers>,
}

/// The balancers that listen on one port. They share an SRV target.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Balancers {
    pub(super) port: u16,
    pub(super) ips: Vec<IpAddr>,
}

/// The configured SRV target is no name that DNS can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the SRV target `{0}` is no DNS name; write labels of 1 to 63 bytes with dots between them, as lb.example.com"
)]
pub struct BadTarget(String);

/// One service, as far as names are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneService {
    /// What the fleet calls it.
    pub name: ServiceName,
    /// Its name and its aliases. Ports in them do not matter here, except that
    /// a name without one is preferred where several services share a host.
    pub names: Vec<ServiceName>,
}

/// A name's place in a [`Zone`].
#[derive(Debug, Clone, Copy)]
pub enum Place<'z> {
    /// The name exists, or one below it does.
    Node(&'z Node),
    /// It lies below one that exists, and does not.
    Missing,
    /// It is not ours.
    Outside,
}

/// What stands at a name.
#[derive(Debug, Default)]
pub struct Node {
    /// A zone begins here: its SOA, and the SRV targets of it.
    pub(super) apex: Option<Arc<[Name]>>,
    /// The service of this name.
    pub(super) service: Option<Host>,
    /// Index of the balancers that this SRV target is.
    pub(super) balancers: Option<usize>,
    /// SRV targets, in the order of the balancers.
    pub(super) srv: Option<Arc<[Name]>>,
    /// Whether the service config stands here.
    pub(super) config: bool,
    turns: [AtomicUsize; 3],
}

/// Whose backends the addresses of a host are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A service called exactly this.
    Exact(ServiceName),
    /// The only service called this and a port.
    Ported(ServiceName),
    /// Several, which differ in their ports: a query for addresses does not
    /// say which is meant, and a wrong backend is worse than none.
    Several,
}

impl ZoneSettings {
    /// From the configuration. `advertise` are the addresses of all balancers;
    /// those that share a port share an SRV target.
    ///
    /// # Errors
    /// If the configured target is no DNS name, or does not leave room for the
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
        })
    }

    /// Time to live of every record, in seconds.
    pub(super) fn ttl(&self) -> u32 {
        self.ttl
    }

    pub(super) fn balancers(&self) -> &[Balancers] {
        &self.balancers
    }
}

impl Zone {
    /// The names of these services. One whose name DNS cannot hold has none.
    pub fn new(
        settings: Arc<ZoneSettings>,
        services: impl IntoIterator<Item = ZoneService>,
    ) -> Self {
        let mut zone = Self {
            settings,
            nodes: HashMap::new(),
        };
        let settings = Arc::clone(&zone.settings);
        let count = settings.balancers.len();
        let shared = settings.target.as_ref().map(|name| targets(name, count));
        for service in services {
            for name in &service.names {
                let Some(host) = parse(name.host()) else {
                    continue;
                };
                let targets = shared.clone().unwrap_or_else(|| {
                    let target = host.prepend_label("lb");
                    target.map_or_else(|_| Arc::from([]), |name| targets(&name, count))
                });
                let exact = name.host() == name.as_str();
                zone.add_host(&host, Host::of(&service.name, exact), &targets);
            }
        }
        // Last, so that a target below a service is part of the service's zone.
        let shared = shared.iter().flat_map(|targets| targets.iter());
        for (index, target) in shared.enumerate() {
            let outside = zone.apex(target).1.is_none();
            let node = zone.node(target);
            node.balancers = Some(index);
            if outside {
                node.apex = Some(Arc::from([target.clone()]));
            }
        }
        zone
    }

    fn add_host(&mut self, host: &Name, owner: Host, targets: &Arc<[Name]>) {
        let node = self.node(host);
        node.apex = Some(Arc::clone(targets));
        node.service = Some(match node.service.take() {
            None => owner,
            Some(known) => known.or(owner),
        });
        if let Some(name) = below(host, &["_grpclb", "_tcp"]) {
            self.node(&name).srv = Some(Arc::clone(targets));
        }
        if self.settings.service_config
            && let Some(name) = below(host, &["_grpc_config"])
        {
            self.node(&name).config = true;
        }
        for (index, target) in targets.iter().enumerate() {
            self.node(target).balancers = Some(index);
        }
    }

    /// The node of this name, made with its ancestors if need be.
    fn node(&mut self, name: &Name) -> &mut Node {
        let (key, starts) = key(name);
        for start in starts.iter().skip(1) {
            self.nodes.entry(key[*start..].into()).or_default();
        }
        self.nodes.entry(key).or_default()
    }

    /// Where a name is.
    #[must_use]
    pub fn find(&self, name: &Name) -> Place<'_> {
        let (key, starts) = key(name);
        if let Some(node) = self.nodes.get(&*key) {
            return Place::Node(node);
        }
        match self.apex_of(&key, &starts) {
            Some(_) => Place::Missing,
            None => Place::Outside,
        }
    }

    /// The name at which the zone of `name` begins, spelled as in `name`, and
    /// the targets there. A name above every zone begins its own.
    pub(super) fn apex(&self, name: &Name) -> (Name, Option<&Arc<[Name]>>) {
        let (key, starts) = key(name);
        match self.apex_of(&key, &starts) {
            Some((index, targets)) => (name.trim_to(starts.len() - index), Some(targets)),
            None => (name.clone(), None),
        }
    }

    fn apex_of(&self, key: &[u8], starts: &[usize]) -> Option<(usize, &Arc<[Name]>)> {
        starts.iter().enumerate().find_map(|(index, start)| {
            let node = self.nodes.get(&key[*start..])?;
            Some((index, node.apex.as_ref()?))
        })
    }

    pub(super) fn settings(&self) -> &ZoneSettings {
        &self.settings
    }
}

impl Place<'_> {
    /// The service whose backends an A or AAAA query for this place is about.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Place::Node(Node {
                service: Some(Host::Exact(name) | Host::Ported(name)),
                balancers: None,
                ..
            }) => Some(name),
            _ => None,
        }
    }

    /// Counts the queries of each type for this place: what its answers are
    /// rotated by. One counter for all would fall into step with clients, which
    /// ask in a fixed sequence.
    #[must_use]
    pub fn take_turn(&self, kind: RecordType) -> usize {
        let (Place::Node(node), Some(index)) = (self, rotated(kind)) else {
            return 0;
        };
        node.turns[index].fetch_add(1, Ordering::Relaxed)
    }
}

impl Host {
    fn of(service: &ServiceName, exact: bool) -> Self {
        if exact {
            Self::Exact(service.clone())
        } else {
            Self::Ported(service.clone())
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (exact @ Self::Exact(_), _) | (_, exact @ Self::Exact(_)) => exact,
            (one, other) if one == other => one,
            _ => Self::Several,
        }
    }
}

fn rotated(kind: RecordType) -> Option<usize> {
    match kind {
        RecordType::A => Some(0),
        RecordType::AAAA => Some(1),
        RecordType::SRV => Some(2),
        _ => None,
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

fn below(host: &Name, labels: &[&str]) -> Option<Name> {
    let labels = labels.iter().rev();
    labels
        .copied()
        .try_fold(host.clone(), |name, label| name.prepend_label(label).ok())
}

fn parse(host: &str) -> Option<Name> {
    Name::from_labels(host.split('.').map(str::as_bytes)).ok()
}

/// A name in lower case and wire form without the root, and where its labels
/// begin. Not hickory's own comparison, so that an ancestor is a slice.
fn key(name: &Name) -> (Box<[u8]>, Vec<usize>) {
    let mut key = Vec::with_capacity(name.len());
    let mut starts = Vec::new();
    for label in name.iter() {
        starts.push(key.len());
        // A label has at most 63 bytes.
        key.push(label.len() as u8);
        key.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    (key.into(), starts)
}

/// Seconds of a time to live, rounded up: 0 would forbid every cache. At most
/// what DNS can say (RFC 2181 §8).
fn whole_seconds(ttl: Duration) -> u32 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    u32::try_from(seconds).map_or(MAX_TTL, |seconds| seconds.min(MAX_TTL))
}

const MAX_TTL: u32 = i32::MAX as u32;
