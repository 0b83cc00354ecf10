//! From a configuration to the catalogue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalogue::{Catalogue, CatalogueConfig, ServiceEntry};
use crate::config::{BackendConfig, Config, ServiceConfig};
use lookaside_core::model::ServiceName;
use lookaside_core::plan::{Contribution, MemberFields, ServiceSettings, SourceKind};

/// Makes the configuration's services those of the catalogue, with the backends
/// that the file lists; a service without any gets a contribution without any,
/// for the file has answered.
pub fn apply(config: &Config, catalogue: &Catalogue) {
    apply_services(config, catalogue, |_| true);
}

/// The same where `old` was applied before: services whose backends are the
/// same are left alone.
pub(super) fn apply_change(old: &Config, new: &Config, catalogue: &Catalogue) {
    let old = old.services.iter();
    let old: BTreeMap<&ServiceName, &[BackendConfig]> = old
        .map(|service| (&service.name, service.backends.as_slice()))
        .collect();
    apply_services(new, catalogue, |service| {
        old.get(&service.name) != Some(&service.backends.as_slice())
    });
}

fn apply_services(
    config: &Config,
    catalogue: &Catalogue,
    changed: impl Fn(&ServiceConfig) -> bool,
) {
    let changed = config.services.iter().filter(|service| changed(service));
    let listed = changed.map(|s| (s.name.clone(), contribution(&s.backends)));
    let services = config.services.iter().map(|s| entry(s, config));
    let services = CatalogueConfig {
        services: services.collect(),
    };
    catalogue.configure_with(services, listed.collect());
}

fn entry(service: &ServiceConfig, config: &Config) -> ServiceEntry {
    let mut weights = service.weights.clone();
    weights.reports.interval = service.report_interval(&config.balancer);
    ServiceEntry {
        name: service.name.clone(),
        aliases: service.aliases.clone(),
        settings: ServiceSettings {
            drops: service.drops.clone(),
            overload: service.overload,
            fallback_port: service.fallback_port,
            matches: service.matches.clone(),
            weights,
            health_checks: service.health.is_some(),
            subset: service.subset,
            zones: service.prefer_zone.then(|| Arc::clone(&config.zones)),
        },
        sources: match service.register {
            Some(_) => BTreeSet::from([SourceKind::File.into(), SourceKind::Registration.into()]),
            None => BTreeSet::from([SourceKind::File.into()]),
        },
    }
}

fn contribution(backends: &[BackendConfig]) -> Contribution {
    let members = backends.iter().map(|backend| {
        let fields = MemberFields {
            weight: backend.weight,
            zone: backend.zone.clone(),
            drain: backend.drain,
            labels: backend.labels.clone(),
            incarnation: None,
        };
        (backend.address, fields)
    });
    members.collect()
}
