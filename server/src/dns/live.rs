//! The fleet as DNS sees it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hickory_proto::op::Query;
use hickory_proto::rr::RecordType;

use super::answer::{Answer, View, answer};
use super::zone::{Zone, ZoneService, ZoneSettings};
use crate::fleet::{Fleet, Service};
use crate::plan::Member;

/// Answers from the fleet. Names are kept until the services change; backends
/// are read for each query.
#[derive(Debug)]
pub(super) struct Live {
    fleet: Arc<Fleet>,
    settings: Arc<ZoneSettings>,
    /// Seconds, added to generations so that serials do not fall at a restart.
    started: u32,
    zone: ArcSwapOption<Dated>,
}

#[derive(Debug)]
struct Dated {
    generation: u64,
    zone: Zone,
}

impl Live {
    pub(super) fn new(fleet: Arc<Fleet>, settings: ZoneSettings, started: u32) -> Self {
        Self {
            fleet,
            settings: Arc::new(settings),
            started,
            zone: ArcSwapOption::empty(),
        }
    }

    pub(super) fn answer(&self, query: &Query) -> Answer {
        let dated = self.zone();
        let zone = dated.as_ref().map(|dated| &dated.zone);
        let place = zone.map(|zone| zone.find(query.name()));
        let service = place
            .and_then(|place| place.service().cloned())
            .and_then(|name| self.fleet.get(name.as_str()));
        let is_address = matches!(query.query_type(), RecordType::A | RecordType::AAAA);
        let backends = match &service {
            Some(service) if is_address => backends(service),
            _ => None,
        };
        // Wraps around, as serials do (RFC 1982). Backends do not count: nobody
        // transfers these zones, and a serial should not differ between names.
        let generation = dated.as_ref().map_or(0, |dated| dated.generation);
        let serial = self.started.wrapping_add(generation as u32);
        let view = View {
            zone,
            backends: backends.as_deref(),
            turn: place.map_or(0, |place| place.take_turn(query.query_type())),
            serial,
        };
        answer(query, view)
    }

    /// The names as of now; `None` while the fleet is not configured.
    fn zone(&self) -> Option<Arc<Dated>> {
        // Before the services are read: what changes meanwhile counts as newer.
        let generation = self.fleet.generation();
        let known = self.zone.load_full();
        match known {
            Some(dated) if dated.generation == generation => Some(dated),
            _ if !self.fleet.is_configured() => None,
            _ => {
                let zone = Zone::new(Arc::clone(&self.settings), services(&self.fleet));
                let dated = Arc::new(Dated { generation, zone });
                self.zone.store(Some(Arc::clone(&dated)));
                Some(dated)
            }
        }
    }
}

fn services(fleet: &Fleet) -> impl Iterator<Item = ZoneService> {
    let mut names: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for service in fleet.services() {
        let name = service.name().clone();
        names.entry(name.clone()).or_default().push(name);
    }
    for (alias, service) in fleet.aliases().iter() {
        let names = names.entry(service.clone()).or_default();
        names.push(alias.clone());
    }
    let services = names.into_iter();
    services.map(|(name, names)| ZoneService { name, names })
}

/// Addresses of the listed backends on the port that the service's name is
/// about; `None` while nothing is known of them.
fn backends(service: &Service) -> Option<Vec<IpAddr>> {
    let snapshot = service.snapshot()?;
    let members = &snapshot.plan.members;
    let port = service.settings().fallback_port;
    let port = port.or_else(|| shared_port(members));
    let listed = members
        .iter()
        .filter(|member| member.state.is_listed() && Some(member.addr.port()) == port);
    Some(listed.map(|member| member.addr.ip()).collect())
}

/// The port of all members, listed or not: draining one must not change what
/// is answered about the others.
fn shared_port(members: &[Member]) -> Option<u16> {
    let port = members.first()?.addr.port();
    let shared = members.iter().all(|member| member.addr.port() == port);
    shared.then_some(port)
}
