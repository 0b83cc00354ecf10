//! The fleet as DNS sees it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use hickory_proto::op::Query;
use hickory_proto::rr::RecordType;
use tokio::sync::watch;

use super::answer::{Answer, View, answer};
use super::zone::{Zone, ZoneService, ZoneSettings};
use crate::fleet::{Fleet, Service};
use crate::plan::Member;

/// Answers from the fleet. Names are kept until the services or the settings
/// change; backends are read for each query.
#[derive(Debug)]
pub(super) struct Live {
    fleet: Arc<Fleet>,
    settings: watch::Receiver<Arc<ZoneSettings>>,
    /// Seconds, added to generations so that serials do not fall at a restart.
    started: u32,
    /// How often the settings have changed.
    changes: AtomicU64,
    zone: ArcSwapOption<Dated>,
}

#[derive(Debug)]
struct Dated {
    generation: u64,
    settings: Arc<ZoneSettings>,
    serial: u32,
    zone: Zone,
}

impl Live {
    pub(super) fn new(
        fleet: Arc<Fleet>,
        settings: watch::Receiver<Arc<ZoneSettings>>,
        started: u32,
    ) -> Self {
        Self {
            fleet,
            settings,
            started,
            changes: AtomicU64::new(0),
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
        let serial = dated.as_ref().map_or(self.started, |dated| dated.serial);
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
        let settings = Arc::clone(&self.settings.borrow());
        let known = self.zone.load_full();
        let same = |dated: &Dated| Arc::ptr_eq(&dated.settings, &settings);
        match known {
            Some(dated) if dated.generation == generation && same(&dated) => Some(dated),
            _ if !self.fleet.is_configured() => None,
            known => {
                let changed = known.is_some_and(|dated| !same(&dated));
                let before = self.changes.fetch_add(changed.into(), Ordering::Relaxed);
                let dated = Arc::new(Dated {
                    generation,
                    serial: self.serial(generation + before + u64::from(changed)),
                    zone: Zone::new(Arc::clone(&settings), services(&self.fleet)),
                    settings,
                });
                self.zone.store(Some(Arc::clone(&dated)));
                Some(dated)
            }
        }
    }

    /// Wraps around, as serials do (RFC 1982). Backends do not count: nobody
    /// transfers these zones, and a serial should not differ between names.
    fn serial(&self, changes: u64) -> u32 {
        self.started.wrapping_add(changes as u32)
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
        .filter(|member| member.listed && Some(member.addr.port()) == port);
    Some(listed.map(|member| member.addr.ip()).collect())
}

/// The port of all members, listed or not: draining one must not change what
/// is answered about the others.
fn shared_port(members: &[Member]) -> Option<u16> {
    let port = members.first()?.addr.port();
    let shared = members.iter().all(|member| member.addr.port() == port);
    shared.then_some(port)
}
