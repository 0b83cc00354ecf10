//! What clients may take: as the operator says, else what the machine has.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::warn;

use crate::admin::AdminLimits;
use crate::balance_load::StreamLimits;
use crate::config::{AdminConfig, LimitsConfig};
use crate::net;

/// Of everything that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) net: net::Limits,
    pub(super) streams: StreamLimits,
    pub(super) admin: AdminLimits,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

impl Limits {
    /// The configured ones on top of `machine`'s.
    pub(super) fn new(config: &LimitsConfig, admin: &AdminConfig, machine: net::Limits) -> Self {
        let most = machine.connections;
        let mut net = machine;
        if let Some(connections) = config.connections.map(whole) {
            if connections > most {
                warn!(
                    "limits.connections = {connections} is more than the {most} that the open files \
                     allow; raise `ulimit -n` (LimitNOFILE= of systemd)"
                );
            }
            net.connections = connections.min(most);
            net.connections_per_peer = three_quarters(net.connections);
        }
        set(
            &mut net.connections_per_peer,
            config.connections_per_address.map(whole),
        );
        set(
            &mut net.streams_per_connection,
            config.streams_per_connection,
        );
        set(
            &mut net.admin_connections,
            config.admin_connections.map(whole),
        );
        set(&mut net.handshake_timeout, config.handshake_timeout);
        set(&mut net.keepalive_interval, config.keepalive_interval);
        set(&mut net.keepalive_timeout, config.keepalive_timeout);
        set(&mut net.stall_timeout, config.stall_timeout);

        let mut streams = StreamLimits::default();
        if let Some(total) = config.streams.map(whole) {
            streams.total = total;
            streams.per_peer = three_quarters(total);
        }
        set(&mut streams.per_peer, config.streams_per_address.map(whole));
        if let Some(side) = config.other_streams.map(whole) {
            streams.side_total = side;
            streams.side_per_peer = side.div_ceil(10);
        }
        set(
            &mut streams.side_per_peer,
            config.other_streams_per_address.map(whole),
        );
        set(
            &mut streams.initial_request_timeout,
            config.initial_request_timeout,
        );
        let admin = AdminLimits {
            metrics_interval: admin.metrics_interval,
            ..AdminLimits::new(net.admin_connections)
        };
        Self {
            net,
            streams,
            admin,
        }
    }

    /// Registers the counts as metrics.
    pub(super) fn register(&self, registry: &mut Registry) {
        let limits: Family<LimitLabels, Gauge> = Family::default();
        let Self {
            net,
            streams,
            admin,
        } = self;
        let per_connection = usize::try_from(net.streams_per_connection);
        for (limit, most) in [
            ("connections", net.connections),
            ("connections_per_address", net.connections_per_peer),
            (
                "streams_per_connection",
                per_connection.unwrap_or(usize::MAX),
            ),
            ("streams", streams.total),
            ("streams_per_address", streams.per_peer),
            ("other_streams", streams.side_total),
            ("other_streams_per_address", streams.side_per_peer),
            ("admin_connections", admin.connections),
        ] {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            limits.get_or_create(&LimitLabels { limit }).set(most);
        }
        registry.register(
            "limit",
            "What clients may have at one time, by the key of [limits] in the configuration",
            limits,
        );
    }
}

fn set<T>(limit: &mut T, stated: Option<T>) {
    if let Some(stated) = stated {
        *limit = stated;
    }
}

fn whole(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// What one address may have of `all`, at least one.
fn three_quarters(all: usize) -> usize {
    all - all / 4
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(config: &LimitsConfig, machine: net::Limits) -> Limits {
        Limits::new(config, &AdminConfig::default(), machine)
    }

    #[test]
    fn what_is_stated_counts_and_the_rest_follows_from_it() {
        let machine = net::Limits::for_descriptors(1024);
        let none = limits(&LimitsConfig::default(), machine.clone());
        assert_eq!(
            (&none.net, &none.streams),
            (&machine, &StreamLimits::default())
        );
        let config = LimitsConfig {
            connections: Some(100),
            streams: Some(1000),
            streams_per_address: Some(10),
            other_streams: Some(50),
            admin_connections: Some(7),
            stall_timeout: Some(Duration::from_secs(5)),
            ..LimitsConfig::default()
        };
        let stated = limits(&config, machine.clone());
        assert_eq!(
            (stated.net.connections, stated.net.connections_per_peer),
            (100, 75)
        );
        assert_eq!((stated.streams.total, stated.streams.per_peer), (1000, 10));
        assert_eq!(
            (stated.streams.side_total, stated.streams.side_per_peer),
            (50, 5)
        );
        assert_eq!(stated.admin.connections, 7);
        assert_eq!(stated.net.stall_timeout, Duration::from_secs(5));
        assert_eq!(stated.net.keepalive_interval, machine.keepalive_interval);
    }

    #[test]
    fn nobody_has_more_connections_than_there_are_files() {
        let machine = net::Limits::for_descriptors(1024);
        let most = machine.connections;
        let config = LimitsConfig {
            connections: Some(1_000_000),
            ..LimitsConfig::default()
        };
        assert_eq!(limits(&config, machine).net.connections, most);
    }
}
