//! What a changed file may not take away at once: a TOML file that was cut short
//! can be valid.

use std::collections::BTreeSet;

use super::Running;
use crate::config::{Config, ConfigErrors, ServiceConfig};
use lookaside_core::model::ServiceName;

/// So many services are named in a message; of the others it says how many.
const NAMED: usize = 3;

/// How much a changed file may take away at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Neither all services nor most of them, nor all backends of a service.
    Some,
    /// Most services, since the file has said so for a while.
    MostServices,
    /// Everything.
    Everything,
}

/// Why a file that was read again is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not a configuration.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
    /// It has no service, and there are some.
    #[error(
        "{file}: it has no service any more, but {count} are running; a file that is cut short \
         looks like this. To take backends out of service, drain them (`lookaside drain`); \
         to allow an empty file, run `lookaside serve --allow-empty`"
    )]
    NoServices {
        /// The file.
        file: String,
        /// How many services are in force.
        count: usize,
    },
    /// A service has no backend any more, and has some.
    #[error(
        "{file}: {} no backends any more; a file that is cut short looks like this. To take \
         backends out of service, drain them (`lookaside drain`) or remove the service; to allow \
         services to become empty, run `lookaside serve --allow-empty`",
        have(services)
    )]
    NoBackends {
        /// The file.
        file: String,
        /// The services.
        services: Vec<ServiceName>,
    },
    /// More than half of the services are gone, and at least two. It is applied if
    /// it says the same again after a while.
    #[error(
        "{file}: {} of {count} services are gone ({}); a file that is cut short looks like this",
        gone.len(),
        named(gone)
    )]
    MostServices {
        /// The file.
        file: String,
        /// The services that it does not have.
        gone: Vec<ServiceName>,
        /// How many services are in force.
        count: usize,
    },
}

/// Judges what `new` takes away from what is running.
pub(super) fn guard(
    running: Running<'_>,
    new: &Config,
    file: &str,
    allowed: Allowed,
) -> Result<(), Refusal> {
    if allowed == Allowed::Everything {
        return Ok(());
    }
    let file = file.to_owned();
    let count = running.config.services.len();
    if new.services.is_empty() && count > 0 {
        return Err(Refusal::NoServices { file, count });
    }
    let services = emptied(running, &new.services);
    if !services.is_empty() {
        return Err(Refusal::NoBackends { file, services });
    }
    let gone = gone(&running.config.services, &new.services);
    if allowed == Allowed::Some && gone.len() >= 2 && 2 * gone.len() > count {
        return Err(Refusal::MostServices { file, gone, count });
    }
    Ok(())
}

/// Services that have backends, and would have none: neither the file's nor those
/// that other sources list, as far as the service keeps these sources.
fn emptied(running: Running<'_>, new: &[ServiceConfig]) -> Vec<ServiceName> {
    let old = &running.config.services;
    let has_elsewhere = |name: &ServiceName| running.elsewhere.contains(name);
    let had = |name: &ServiceName| {
        let old = old.iter().find(|service| service.name == *name);
        old.is_some_and(|old| !old.backends.is_empty() || has_elsewhere(name))
    };
    let keeps = |service: &ServiceConfig| {
        !service.backends.is_empty() || (service.register.is_some() && has_elsewhere(&service.name))
    };
    let emptied = new.iter().filter(|new| !keeps(new) && had(&new.name));
    emptied.map(|service| service.name.clone()).collect()
}

/// Services whose names mean nothing any more.
fn gone(old: &[ServiceConfig], new: &[ServiceConfig]) -> Vec<ServiceName> {
    let names = new.iter();
    let names = names.flat_map(|service| std::iter::once(&service.name).chain(&service.aliases));
    let names: BTreeSet<&ServiceName> = names.collect();
    let old = old.iter().map(|service| &service.name);
    old.filter(|name| !names.contains(name)).cloned().collect()
}

fn have(services: &[ServiceName]) -> String {
    let verb = if services.len() == 1 { "has" } else { "have" };
    format!("{} {verb}", named(services))
}

/// Services by name, as far as a line can hold them.
fn named(services: &[ServiceName]) -> String {
    let quoted = |services: &[ServiceName]| {
        let names: Vec<String> = services.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    };
    match services.len() {
        0..=NAMED => quoted(services),
        len => format!("{} and {} more", quoted(&services[..NAMED]), len - NAMED),
    }
}
