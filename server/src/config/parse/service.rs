//! `[[service]]`: reading services, their backends and their drops.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::read::{Node, Table};
use super::weights;
use super::{health, labels, load, overload, register, tls, zones};
use super::{is_of_nobody, of_nobody};
use crate::config::error::{Faults, Place};
use crate::config::{BackendConfig, DnsConfig, ServiceConfig, TlsConfig};
use lookaside_core::model::{
    BackendAddr, BackendTls, Cidr, DialRules, DropCategory, DropShare, ServiceName, Weight,
    ZoneTable,
};

/// Shares that are written to sum to 1 may be over it by what binary fractions
/// lose.
const SHARE_ROUNDING: f64 = 1e-9;

/// Keys of a service whose feature is designed, but not there yet.
const LATER: [&str; 2] = ["discovery", "hold"];

/// The same of a backend.
const LATER_OF_BACKEND: [&str; 1] = ["priority"];

/// Which services have which names, so that each means one.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeMap<ServiceName, Place>,
    /// Where services prefer zones.
    zones: Vec<Place>,
    /// Where clients' certificates let backends register.
    certificates: Vec<Place>,
}

/// Reads `service`.
pub(super) fn read_all(
    node: &Node<'_>,
    backend_tls: Option<&Arc<BackendTls>>,
    names: &mut Names,
    faults: &mut Faults,
) -> Vec<ServiceConfig> {
    let services = node.array(faults, "[[service]]").unwrap_or_default();
    let services = services.iter().filter_map(|node| {
        let table = node.table(faults, "[[service]]")?;
        read_service(table, backend_tls, names, faults)
    });
    services.collect()
}

fn read_service(
    mut table: Table<'_>,
    backend_tls: Option<&Arc<BackendTls>>,
    names: &mut Names,
    faults: &mut Faults,
) -> Option<ServiceConfig> {
    let name = table.require("name", faults, "\"greeter.example.com\"");
    let name = name.and_then(|node| names.read(&node, faults));
    let aliases = table.take("aliases");
    let aliases = aliases.and_then(|node| node.array(faults, "[\"greeter\"]"));
    let aliases = aliases.unwrap_or_default();
    let aliases = aliases.iter().filter_map(|node| names.read(node, faults));
    let aliases = aliases.collect();

    let weights = weights::read(&mut table, faults);
    let drops = table.take("drop");
    let drops = drops.map(|node| read_drops(&node, faults));
    let overload = table.take("overload");
    let overload = overload.and_then(|node| overload::read(&node, drops.as_deref(), faults));
    let fallback_port = table.take("fallback_port");
    let fallback_port = fallback_port.and_then(|node| node.port(faults, "50051"));
    let cidrs = table.take("cidrs");
    let cidrs = cidrs.map(|node| register::read_cidrs(&node, faults));
    let cidrs = cidrs.unwrap_or_default();
    let dial = DialRules::new(cidrs.clone());
    let register = table.take("register");
    let register = register.and_then(|node| {
        let register = register::read(&node, faults)?;
        let overlaps = |a: &Cidr| cidrs.iter().any(|b| a.overlaps(b));
        let both = !cidrs.is_empty() && !register.cidrs.is_empty();
        if both && !register.cidrs.iter().any(overlaps) {
            let message = "no address is in register.cidrs and in the service's cidrs too, so no \
                           backend could register; widen one of them";
            faults.clash(&node.place, message);
        }
        let named = !register.client_names.is_empty();
        names.certificates.extend(named.then_some(node.place));
        Some(register)
    });
    let tls = tls::inherit(&mut table, backend_tls, faults);
    let health = table.take("health");
    let health = health.and_then(|node| health::read(&node, tls.as_ref(), faults));
    let load = table.take("load");
    let load = load.map(|node| load::read_all(&node, tls.as_ref(), faults));
    let matches = table.take("match");
    let matches = matches.map(|node| labels::read_matches(&node, faults));
    let subset = zones::read_subset(&mut table, faults);
    let prefer_zone = table.take("prefer_zone").and_then(|node| {
        let prefer_zone = node.boolean(faults, "true")?;
        names.zones.extend(prefer_zone.then_some(node.place));
        Some(prefer_zone)
    });
    let backends = table.take("backends");
    let backends = backends.map(|node| read_backends(&node, &dial, faults));
    table.finish(faults, &LATER);
    let (mut health, mut load) = (health, load.unwrap_or_default());
    if let Some(name) = &name {
        tls::call_by_name(name, health.as_mut(), &mut load);
    }
    Some(ServiceConfig {
        name: name?,
        aliases,
        drops: drops.unwrap_or_default(),
        overload,
        fallback_port,
        dial,
        register,
        tls,
        health,
        load,
        matches: matches.unwrap_or_default(),
        weights,
        subset,
        prefer_zone: prefer_zone.unwrap_or_default(),
        backends: backends.unwrap_or_default(),
    })
}

fn read_drops(node: &Node<'_>, faults: &mut Faults) -> Vec<DropShare> {
    let example = "{ maintenance = 0.05 }";
    let Some(table) = node.table(faults, example) else {
        return Vec::new();
    };
    let mut drops = Vec::new();
    for (name, node) in table.entries() {
        let category = match DropCategory::new(name) {
            Ok(category) => Some(category),
            Err(error) => {
                faults.wrong(&node.place, error);
                None
            }
        };
        let Some(share) = node.number(faults, "0.05") else {
            continue;
        };
        // A stand-in shows whether the share is right if the category is not.
        let probe = || DropCategory::new("category").ok();
        let Some(any) = category.clone().or_else(probe) else {
            continue;
        };
        match DropShare::new(any, share) {
            Ok(drop) => drops.extend(category.map(|_| drop)),
            Err(error) if share == 0.0 => {
                let message = format!("{error}; to drop nothing, remove it");
                faults.wrong(&node.place, message);
            }
            Err(error) => faults.wrong(&node.place, error),
        }
    }
    let sum: f64 = drops.iter().map(|drop| drop.share).sum();
    if sum > 1.0 + SHARE_ROUNDING {
        let message = format!("the shares sum to {sum}; all of a service's are at most 1 together");
        faults.clash(&node.place, message);
    }
    drops
}

fn read_backends(node: &Node<'_>, dial: &DialRules, faults: &mut Faults) -> Vec<BackendConfig> {
    let example = "[{ address = \"10.0.1.1:50051\", weight = 3 }]";
    let mut seen: BTreeMap<BackendAddr, String> = BTreeMap::new();
    let mut backends = Vec::new();
    for node in node.array(faults, example).unwrap_or_default() {
        let example = "{ address = \"10.0.1.1:50051\", weight = 3 }";
        let Some(mut table) = node.table(faults, example) else {
            continue;
        };
        let address = table.require("address", faults, "\"10.0.1.1:50051\"");
        let address = address.and_then(|node| {
            let address: BackendAddr = node.parsed(faults, "\"10.0.1.1:50051\"")?;
            if let Some(first) = seen.get(&address) {
                let message = format!("{address} is already the address of {first}");
                faults.clash(&node.place, message);
            }
            if is_of_nobody(address.ip()) {
                faults.wrong(&node.place, of_nobody(address.socket_addr()));
                return None;
            }
            if dial.is_stated() && !dial.allow(address.ip()) {
                let message = format!(
                    "{} is in none of the service's cidrs, so it could neither be checked nor \
                     asked; widen them, or correct the address",
                    address.ip()
                );
                faults.clash(&node.place, message);
            }
            Some(address)
        });
        if let Some(address) = address {
            seen.entry(address)
                .or_insert_with(|| node.place.key.clone());
        }
        let weight = table.take("weight");
        let weight = weight.and_then(|node| read_weight(&node, faults));
        let zone = table.take("zone");
        let zone = zone.and_then(|node| zones::read_name(&node, faults));
        let drain = table.take("drain");
        let drain = drain.and_then(|node| node.boolean(faults, "true"));
        let labels = table.take("labels");
        let labels = labels.and_then(|node| labels::read(&node, faults));
        table.finish(faults, &LATER_OF_BACKEND);
        backends.extend(address.map(|address| BackendConfig {
            address,
            weight,
            zone,
            drain,
            labels: labels.unwrap_or_default(),
        }));
    }
    backends
}

pub(super) fn read_weight(node: &Node<'_>, faults: &mut Faults) -> Option<Weight> {
    let weight = Weight::new(node.number(faults, "3")?);
    weight
        .map_err(|error| faults.wrong(&node.place, error))
        .ok()
}

impl Names {
    /// A name of a service, which nobody else has.
    fn read(&mut self, node: &Node<'_>, faults: &mut Faults) -> Option<ServiceName> {
        let text = node.text(faults, "\"greeter.example.com\"")?;
        let name = match ServiceName::parse(text) {
            Ok(name) => name,
            Err(error) => {
                faults.wrong(&node.place, error);
                return None;
            }
        };
        if let Some(first) = self.taken.get(&name) {
            let message = format!(
                "`{name}` is already {}; a name means one service",
                first.key
            );
            faults.clash(&node.place, message);
        } else {
            self.taken.insert(name.clone(), node.place.clone());
        }
        Some(name)
    }

    /// Who prefers zones needs to know where clients stand.
    pub(super) fn check_zones(&self, zones: &ZoneTable, faults: &mut Faults) {
        for place in self.zones.iter().filter(|_| zones.zones().is_empty()) {
            let message = "the file does not say where clients stand; write [[zone]] with \
                           name = \"a\" and cidrs = [\"10.1.0.0/16\"]";
            faults.clash(place, message);
        }
    }

    /// Names in certificates that nobody shows would let nobody register.
    pub(super) fn check_certificates(&self, tls: Option<&TlsConfig>, faults: &mut Faults) {
        let shown = tls.is_some_and(|tls| tls.client_ca.is_some());
        for place in self.certificates.iter().filter(|_| !shown) {
            let message = "no backend shows a certificate to this balancer, so client_names let \
                           nobody register; write [balancer.tls] with client_ca = \
                           \"/etc/lookaside/clients.pem\"";
            faults.clash(place, message);
        }
    }

    /// No name may be one that DNS answers with the balancer's addresses.
    pub(super) fn check_against(&self, dns: &DnsConfig, faults: &mut Faults) {
        for (name, place) in &self.taken {
            if dns.target.as_deref() == Some(name.host()) {
                let message = format!(
                    "`{name}` is also dns.target, which names the balancer; \
                     write another target, as \"lb.{}\"",
                    name.host()
                );
                faults.clash(place, message);
            }
            let Some((label, rest)) = name.host().split_once('.') else {
                continue;
            };
            let digits = label.strip_prefix("lb");
            let of_balancer = digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()));
            let of_service = self.taken.keys().any(|other| other.host() == rest);
            if dns.target.is_none() && of_balancer && of_service {
                let message = format!(
                    "`{name}` is what DNS calls the balancer of `{rest}`; \
                     write [dns] target to call it otherwise"
                );
                faults.clash(place, message);
            }
        }
    }
}
