//! `labels` of a backend, and `[[service.match]]`: what is said of all backends
//! with certain labels.

use super::read::{Node, Table};
use super::service::read_weight;
use super::zones;
use crate::config::error::Faults;
use lookaside_core::model::{LabelMatch, Labels};

/// As it is written.
const EXAMPLE: &str = "{ version = \"v2\" }";

/// Each backend is compared with each of them at every plan.
const MAX_MATCHES: usize = 100;

pub(super) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Labels> {
    let table = node.table(faults, EXAMPLE)?;
    let labels = table.entries().into_iter().map(|(name, node)| {
        let value = node.text(faults, "\"v2\"")?;
        Some((name, value))
    });
    let labels: Vec<_> = labels.collect();
    // What is no text has its own fault.
    let labels = labels.into_iter().collect::<Option<Vec<_>>>()?;
    let labels = Labels::new(labels);
    labels
        .map_err(|error| faults.wrong(&node.place, error))
        .ok()
}

pub(super) fn read_matches(node: &Node<'_>, faults: &mut Faults) -> Vec<LabelMatch> {
    let nodes = node.array(faults, "[[service.match]]").unwrap_or_default();
    if nodes.len() > MAX_MATCHES {
        let message = format!(
            "there are {}; a service has at most {MAX_MATCHES}",
            nodes.len()
        );
        faults.wrong(&node.place, message);
    }
    let matches = nodes.iter().filter_map(|node| {
        let table = node.table(faults, "[[service.match]]")?;
        read_match(table, faults)
    });
    matches.collect()
}

fn read_match(mut table: Table<'_>, faults: &mut Faults) -> Option<LabelMatch> {
    let place = table.place.clone();
    let labels_node = table.require("labels", faults, EXAMPLE);
    let labels = labels_node.as_ref().and_then(|node| read(node, faults));
    if let (Some(node), Some(labels)) = (&labels_node, &labels)
        && labels.is_empty()
    {
        let message = format!("without labels it means no backend; write some, as {EXAMPLE}");
        faults.wrong(&node.place, message);
    }
    let stated = ["weight", "zone", "drain"].map(|key| (key, table.take(key)));
    let nothing = stated.iter().all(|(_, node)| node.is_none());
    let [(_, weight), (_, zone), (_, drain)] = stated;
    let weight = weight.and_then(|node| read_weight(&node, faults));
    let zone = zone.and_then(|node| zones::read_name(&node, faults));
    let drain = drain.and_then(|node| node.boolean(faults, "true"));
    table.finish(faults, &[]);
    if nothing {
        let message = "it says nothing of the backends it means; write weight, zone or drain";
        faults.clash(&place, message);
    }
    Some(LabelMatch {
        labels: labels?,
        weight,
        zone,
        drain,
    })
}
