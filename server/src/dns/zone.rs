//! Which names there are, and what stands at each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::rr::{Name, RecordType};

use super::settings::{ZoneSettings, parse};
use lookaside_core::model::ServiceName;

/// Every name that is answered for. Built again when the services change.
///
/// A zone in the sense of DNS begins at each service's name, at each alias and
/// at each SRV target that lies below neither. There is nothing above: a server
/// that answers for `com` because it serves `greeter.example.com` would be asked
/// for all of `com`.
#[derive(Debug)]
pub struct Zone {
    settings: Arc<ZoneSettings>,
    /// By name in lower case, in wire form without the root. Every ancestor of
    /// a name is here too, as a node at which nothing stands: if it lies in a
    /// zone it must not be denied, for names exist below it.
    nodes: HashMap<Box<[u8]>, Node>,
}

/// One service, as far as names are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneService {
    /// What the catalogue calls it.
    pub name: ServiceName,
    /// Its name and its aliases. Ports in them do not matter here, except that
    /// a name without one is preferred where several services share a host.
    pub names: Vec<ServiceName>,
}

/// A name's place in a [`Zone`].
#[derive(Debug, Clone, Copy)]
pub enum ZoneMatch<'z> {
    /// The name exists in a zone of ours, or one below it does.
    Node(&'z Node),
    /// It lies in a zone of ours, and does not exist.
    Missing,
    /// It is not ours.
    Outside,
}

/// Where a zone begins.
#[derive(Debug)]
pub(super) struct Apex<'z> {
    /// Spelled as in the name that led here.
    pub(super) name: Name,
    /// The balancers' names.
    pub(super) servers: &'z Arc<[Name]>,
    /// Whose backends are the addresses here.
    pub(super) service: Option<&'z ServiceName>,
}

/// What stands at a name.
#[derive(Debug, Default)]
pub struct Node {
    /// A zone begins here: its SOA, and its name servers, which are the SRV
    /// targets of it.
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
        let shared = settings.shared_targets();
        for service in services {
            for name in &service.names {
                let Some(host) = parse(name.host()) else {
                    continue;
                };
                let targets = shared.clone();
                let targets = targets.unwrap_or_else(|| settings.targets_below(&host));
                let exact = name.host() == name.as_str();
                zone.add_host(&host, Host::of(&service.name, exact), &targets);
            }
        }
        // Last, so that a target below a service is part of the service's zone.
        let shared = shared.iter().flat_map(|targets| targets.iter());
        for (index, target) in shared.enumerate() {
            let outside = zone.apex(target).is_none();
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
        if self.settings.service_config() {
            // grpc-js asks at the service's own name.
            let prefixed = below(host, &["_grpc_config"]);
            for name in prefixed.iter().chain([host]) {
                self.node(name).config = true;
            }
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
    pub fn find(&self, name: &Name) -> ZoneMatch<'_> {
        let (key, starts) = key(name);
        if self.apex_of(&key, &starts).is_none() {
            return ZoneMatch::Outside;
        }
        let node = self.nodes.get(&*key);
        node.map_or(ZoneMatch::Missing, ZoneMatch::Node)
    }

    /// Where the zone of `name` begins.
    pub(super) fn apex(&self, name: &Name) -> Option<Apex<'_>> {
        let (key, starts) = key(name);
        let (index, node, servers) = self.apex_of(&key, &starts)?;
        Some(Apex {
            name: name.trim_to(starts.len() - index),
            servers,
            service: ZoneMatch::Node(node).service(),
        })
    }

    /// Whether a zone begins at this name.
    pub(super) fn begins_at(&self, name: &Name) -> bool {
        let node = self.nodes.get(&*key(name).0);
        node.is_some_and(|node| node.apex.is_some())
    }

    fn apex_of(&self, key: &[u8], starts: &[usize]) -> Option<(usize, &Node, &Arc<[Name]>)> {
        starts.iter().enumerate().find_map(|(index, start)| {
            let node = self.nodes.get(&key[*start..])?;
            Some((index, node, node.apex.as_ref()?))
        })
    }

    pub(super) fn settings(&self) -> &ZoneSettings {
        &self.settings
    }
}

impl<'z> ZoneMatch<'z> {
    /// The service whose backends an A or AAAA query for this place is about.
    #[must_use]
    pub fn service(self) -> Option<&'z ServiceName> {
        match self {
            ZoneMatch::Node(Node {
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
        let (ZoneMatch::Node(node), Some(index)) = (self, rotated(kind)) else {
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

fn below(host: &Name, labels: &[&str]) -> Option<Name> {
    let labels = labels.iter().rev();
    labels
        .copied()
        .try_fold(host.clone(), |name, label| name.prepend_label(label).ok())
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
