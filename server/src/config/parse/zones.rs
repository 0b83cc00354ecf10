//! `[[zone]]`: where clients stand.

use std::collections::BTreeMap;

use super::read::{Node, Table};
use crate::config::error::Faults;
use lookaside_core::model::{Cidr, Zone, ZoneTable};

/// Longest name of a zone, in bytes, as of a label value in Kubernetes.
const MAX_ZONE_LEN: usize = 63;

/// Fewer backends than this are no subset: with one, its end is the client's.
const LEAST_SUBSET: f64 = 2.0;

/// More are in no list.
const MOST_SUBSET: f64 = 2000.0;

/// Reads `zone`.
pub(super) fn read_all(node: &Node<'_>, faults: &mut Faults) -> ZoneTable {
    let mut names: BTreeMap<Zone, String> = BTreeMap::new();
    let mut networks: BTreeMap<Cidr, String> = BTreeMap::new();
    let mut zones = Vec::new();
    let tables = node.array(faults, "[[zone]]").unwrap_or_default();
    if tables.len() > ZoneTable::MAX_ZONES {
        let message = format!(
            "there are {} zones; every zone has lists of its own, so write at most {}",
            tables.len(),
            ZoneTable::MAX_ZONES
        );
        faults.wrong(&node.place, message);
    }
    for node in tables {
        let Some(mut table) = node.table(faults, "[[zone]]") else {
            continue;
        };
        let name = table.require("name", faults, "\"eu-west-1a\"");
        let name = name.and_then(|node| {
            let name = read_name(&node, faults)?;
            if let Some(first) = names.get(&name) {
                let message = format!(
                    "`{name}` is already {first}; write all networks of a zone into one cidrs"
                );
                faults.clash(&node.place, message);
            }
            names.entry(Zone::clone(&name)).or_insert(node.place.key);
            Some(name)
        });
        let cidrs = table.require("cidrs", faults, "[\"10.1.0.0/16\"]");
        let cidrs = cidrs.map(|node| read_cidrs(&node, &mut networks, faults));
        table.finish(faults, &[]);
        zones.extend(name.zip(cidrs));
    }
    ZoneTable::new(zones)
}

/// The name of a zone.
pub(super) fn read_name(node: &Node<'_>, faults: &mut Faults) -> Option<Zone> {
    let zone = node.text(faults, "\"eu-west-1a\"")?;
    if zone.is_empty() || zone.len() > MAX_ZONE_LEN || zone.chars().any(char::is_control) {
        let message = format!("`{zone}` is no zone; write 1 to {MAX_ZONE_LEN} printable bytes");
        faults.wrong(&node.place, message);
        return None;
    }
    Some(zone.into())
}

/// `subset` of a service.
pub(super) fn read_subset(table: &mut Table<'_>, faults: &mut Faults) -> Option<usize> {
    let node = table.take("subset")?;
    let subset = node.number(faults, "100")?;
    if subset.fract() != 0.0 || !(LEAST_SUBSET..=MOST_SUBSET).contains(&subset) {
        let message = format!(
            "{subset} is no number of backends for a client; write a whole number from \
             {LEAST_SUBSET} to {MOST_SUBSET}: with fewer, a client stands still when one backend does"
        );
        faults.wrong(&node.place, message);
        return None;
    }
    Some(subset as usize)
}

fn read_cidrs(
    node: &Node<'_>,
    networks: &mut BTreeMap<Cidr, String>,
    faults: &mut Faults,
) -> Vec<Cidr> {
    let items = node.array(faults, "[\"10.1.0.0/16\"]").unwrap_or_default();
    if items.is_empty() {
        let message = "a zone without networks has no clients; write cidrs = [\"10.1.0.0/16\"]";
        faults.wrong(&node.place, message);
    }
    let mut cidrs = Vec::new();
    for item in items {
        let Some(cidr) = item.parsed::<Cidr>(faults, "\"10.1.0.0/16\"") else {
            continue;
        };
        if let Some(first) = networks.get(&cidr) {
            let message = format!(
                "{cidr} is already {first}; an address stands in one zone (a longer prefix \
                 inside another is fine)"
            );
            faults.clash(&item.place, message);
            continue;
        }
        networks.insert(cidr, item.place.key.clone());
        cidrs.push(cidr);
    }
    cidrs
}
