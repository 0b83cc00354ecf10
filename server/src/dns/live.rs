//! The catalogue as DNS sees it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RecordType};
use tokio::sync::watch;

use super::answer::{Answer, View, answer};
use super::serials::{self, Origin, Serials};
use super::settings::ZoneSettings;
use super::zone::{Zone, ZoneService};
use crate::catalogue::{Catalogue, Service};
use lookaside_core::plan::Member;

/// Answers from the catalogue. Names are kept until the services or the settings
/// change; backends are read for each query.
#[derive(Debug)]
pub(super) struct Live {
    catalogue: Arc<Catalogue>,
    settings: watch::Receiver<Arc<ZoneSettings>>,
    zone: ArcSwapOption<Dated>,
    /// How often names were made.
    made: AtomicU64,
    serials: Serials,
}

#[derive(Debug)]
struct Dated {
    generation: u64,
    settings: Arc<ZoneSettings>,
    /// Which one this is of all that were made.
    edition: u64,
    zone: Zone,
}

impl Live {
    pub(super) fn new(
        catalogue: Arc<Catalogue>,
        settings: watch::Receiver<Arc<ZoneSettings>>,
    ) -> Self {
        Self {
            catalogue,
            settings,
            zone: ArcSwapOption::empty(),
            made: AtomicU64::new(0),
            serials: Serials::default(),
        }
    }

    /// Answers that a network gets in a second; 0 is no limit.
    pub(super) fn rate(&self) -> u32 {
        self.settings.borrow().responses_per_second()
    }

    /// Most TCP connections at a time.
    pub(super) fn tcp_connections(&self) -> usize {
        self.settings.borrow().tcp_connections()
    }

    pub(super) fn answer(&self, query: &Query) -> Answer {
        let dated = self.zone();
        let zone = dated.as_ref().map(|dated| &dated.zone);
        let place = zone.map(|zone| zone.find(query.name()));
        let service = place
            .and_then(|place| place.service().cloned())
            .and_then(|name| self.catalogue.get(name.as_str()));
        let is_address = matches!(query.query_type(), RecordType::A | RecordType::AAAA);
        let backends = match &service {
            Some(service) if is_address => backends(service),
            _ => None,
        };
        let view = View {
            zone,
            backends: backends.as_deref(),
            turn: place.map_or(0, |place| place.take_turn(query.query_type())),
        };
        let serial = || dated.as_ref().map(|dated| self.serial(dated, query.name()));
        answer(query, view, || serial().unwrap_or_else(serials::now))
    }

    /// The names as of now; `None` while the catalogue is not configured.
    fn zone(&self) -> Option<Arc<Dated>> {
        // Before the services are read: what changes meanwhile counts as newer.
        let generation = self.catalogue.generation();
        let settings = Arc::clone(&self.settings.borrow());
        let known = self.zone.load_full();
        let same = |dated: &Dated| Arc::ptr_eq(&dated.settings, &settings);
        match known {
            Some(dated) if dated.generation == generation && same(&dated) => Some(dated),
            _ if !self.catalogue.is_configured() => None,
            _ => {
                let dated = Arc::new(Dated {
                    generation,
                    edition: self.made.fetch_add(1, Ordering::Relaxed),
                    zone: Zone::new(Arc::clone(&settings), services(&self.catalogue)),
                    settings,
                });
                self.serials.retain(|apex| dated.zone.begins_at(apex));
                self.zone.store(Some(Arc::clone(&dated)));
                Some(dated)
            }
        }
    }

    /// The serial of the zone of a name: it moves when the settings do, or the
    /// backends that are answered there.
    fn serial(&self, dated: &Dated, name: &Name) -> u32 {
        let Some(apex) = dated.zone.apex(name) else {
            return serials::now();
        };
        let service = apex
            .service
            .and_then(|name| self.catalogue.get(name.as_str()));
        let snapshot = service.as_ref().and_then(|service| service.snapshot());
        let origin = Origin {
            names: dated.edition,
            backends: snapshot.map_or(0, |snapshot| snapshot.version),
        };
        self.serials.of(&apex.name, origin, serials::now(), || {
            let mut hasher = DefaultHasher::new();
            dated.settings.hash_content(&mut hasher);
            apex.service.hash(&mut hasher);
            let mut backends = service.as_deref().and_then(backends);
            if let Some(ips) = &mut backends {
                ips.sort_unstable();
            }
            backends.hash(&mut hasher);
            hasher.finish()
        })
    }
}

fn services(catalogue: &Catalogue) -> impl Iterator<Item = ZoneService> {
    let mut names: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for service in catalogue.services() {
        let name = service.name().clone();
        names.entry(name.clone()).or_default().push(name);
    }
    for (alias, service) in catalogue.aliases().iter() {
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
