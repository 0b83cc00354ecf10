//! `load`: where the load of a service's backends is asked for.

use std::time::Duration;

use super::read::Node;
use super::{MILLISECOND, REPORT_INTERVAL};
use crate::config::LoadConfig;
use crate::config::error::Faults;

/// How often backends are asked to report, unless the file says so.
const INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<LoadConfig> {
    let mut table = node.table(faults, "{ kind = \"orca\" }")?;
    let kind = table.require("kind", faults, "\"orca\"");
    if let Some(node) = kind
        && let Some(kind) = node.text(faults, "\"orca\"")
        && kind != "orca"
    {
        let message = format!("there is no kind of load report `{kind}`; there is `orca`");
        faults.wrong(&node.place, message);
    }
    let interval = table.take("interval");
    let interval =
        interval.and_then(|node| node.duration(faults, "\"5s\"", REPORT_INTERVAL, MILLISECOND));
    let port = table.take("port");
    let port = port.and_then(|node| node.port(faults, "50052"));
    let authority = table.take("authority");
    let authority = authority.and_then(|node| node.authority(faults));
    table.finish(faults, &[]);
    Some(LoadConfig {
        interval: interval.unwrap_or(INTERVAL),
        port,
        authority,
    })
}
