//! `[limits]`.

use std::time::Duration;

use super::MILLISECOND;
use super::read::{Node, Table};
use crate::config::LimitsConfig;
use crate::config::error::{Faults, Place};

/// None would be a balancer that answers nobody.
const COUNT: (u32, u32) = (1, 100_000_000);

/// HTTP/2 implementations keep to a hundred where they are told nothing; a thousand
/// lists on one connection are as many clients behind one proxy.
const STREAMS_PER_CONNECTION: (u32, u32) = (1, 1_000_000);

/// Less than a second is a slow network; after an hour nobody comes any more.
const TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

pub(super) fn read(mut table: Table<'_>, faults: &mut Faults) -> LimitsConfig {
    let (connections, connections_per_address) = counts(
        ["connections", "connections_per_address"],
        &mut table,
        faults,
    );
    let (streams, streams_per_address) =
        counts(["streams", "streams_per_address"], &mut table, faults);
    let (other_streams, other_streams_per_address) = counts(
        ["other_streams", "other_streams_per_address"],
        &mut table,
        faults,
    );
    let streams_per_connection = table.take("streams_per_connection");
    let streams_per_connection =
        streams_per_connection.and_then(|node| node.whole(faults, "100", STREAMS_PER_CONNECTION));
    let admin_connections = table.take("admin_connections");
    let admin_connections = admin_connections.and_then(|node| node.whole(faults, "64", COUNT));
    let mut timeout = |key| {
        let node = table.take(key)?;
        node.duration(faults, "\"10s\"", TIMEOUT, MILLISECOND)
    };
    let config = LimitsConfig {
        connections,
        connections_per_address,
        streams_per_connection,
        streams,
        streams_per_address,
        other_streams,
        other_streams_per_address,
        admin_connections,
        handshake_timeout: timeout("handshake_timeout"),
        initial_request_timeout: timeout("initial_request_timeout"),
        keepalive_interval: timeout("keepalive_interval"),
        keepalive_timeout: timeout("keepalive_timeout"),
        stall_timeout: timeout("stall_timeout"),
    };
    table.finish(faults, &[]);
    config
}

/// A limit for all, and one for a single address, which is not greater.
fn counts(
    keys: [&'static str; 2],
    table: &mut Table<'_>,
    faults: &mut Faults,
) -> (Option<u32>, Option<u32>) {
    let mut count = |key| {
        let node: Node<'_> = table.take(key)?;
        Some((node.whole(faults, "10000", COUNT)?, node.place))
    };
    let (all, one): (Option<(u32, Place)>, _) = (count(keys[0]), count(keys[1]));
    if let (Some((all, _)), Some((one, place))) = (&all, &one)
        && one > all
    {
        let message = format!(
            "one address may have {one}, but all together {all} ({}); write at most {all}",
            keys[0]
        );
        faults.clash(place, message);
    }
    (all.map(|(all, _)| all), one.map(|(one, _)| one))
}
