//! What tests of the catalogue and of what reads it have in common.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::{
    Catalogue, CatalogueConfig, CatalogueMetrics, Service, ServiceEntry, Snapshot, Snapshots,
};
use lookaside_core::model::{BackendAddr, RequestedName, ServiceName, Weight};
use lookaside_core::plan::{Contribution, MemberFields, ServiceSettings, SourceKind};

pub(crate) const GREETER: &str = "greeter.test";

pub(crate) fn name(name: &str) -> ServiceName {
    ServiceName::parse(name).unwrap()
}

pub(crate) fn requested(name: &str) -> RequestedName {
    RequestedName::parse(name).unwrap()
}

pub(crate) fn entry(service: &str) -> ServiceEntry {
    ServiceEntry {
        name: name(service),
        aliases: Vec::new(),
        settings: ServiceSettings::default(),
        sources: [SourceKind::File.into()].into(),
    }
}

pub(crate) fn addr(host: u8) -> BackendAddr {
    format!("10.0.0.{host}:80").parse().unwrap()
}

pub(crate) fn backends(weights: &[(u8, f64)]) -> Contribution {
    let member = |(host, weight): &(u8, f64)| {
        let fields = MemberFields {
            weight: Some(Weight::new(*weight).unwrap()),
            ..MemberFields::default()
        };
        (addr(*host), fields)
    };
    weights.iter().map(member).collect()
}

pub(crate) fn configured(services: &[&str]) -> Arc<Catalogue> {
    let catalogue = Catalogue::new(CatalogueMetrics::default());
    catalogue.configure(CatalogueConfig {
        services: services.iter().map(|s| entry(s)).collect(),
    });
    catalogue
}

pub(crate) async fn serving(weights: &[(u8, f64)]) -> (Arc<Catalogue>, Arc<Service>) {
    let catalogue = configured(&[GREETER]);
    catalogue.contribute(&name(GREETER), SourceKind::File, backends(weights));
    let service = catalogue.resolve(&requested(GREETER)).await.unwrap();
    (catalogue, service)
}

/// The plans that a service publishes, each once.
pub(crate) struct Plans {
    snapshots: Snapshots,
    version: u64,
}

impl Plans {
    pub(crate) fn of(service: &Service) -> Self {
        let snapshots = service.snapshots();
        Self {
            snapshots,
            version: 0,
        }
    }

    /// The newest that was not returned before.
    pub(crate) async fn next(&mut self) -> Arc<Snapshot> {
        loop {
            let snapshot = self.snapshots.next().await.expect("not removed");
            if snapshot.version != self.version {
                self.version = snapshot.version;
                return snapshot;
            }
        }
    }

    /// How many backends the next one lists.
    pub(crate) async fn next_listed(&mut self) -> usize {
        listed(&*self.next().await)
    }
}

/// How many backends are listed.
pub(crate) fn listed(snapshot: &Snapshot) -> usize {
    let members = snapshot.plan.members.iter();
    members.filter(|member| member.weight() > 0.0).count()
}

pub(crate) fn metric(registry: &Registry, line: &str) -> Option<f64> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let mut lines = text.lines().filter_map(|found| found.strip_prefix(line));
    lines.next()?.trim().parse().ok()
}
