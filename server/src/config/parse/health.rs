//! `health`: how the backends of a service are checked.

use std::sync::Arc;
use std::time::Duration;

use super::read::{Node, Table};
use super::{MILLISECOND, tls};
use crate::config::error::Faults;
use crate::config::{HealthConfig, HealthKind};
use lookaside_core::model::BackendTls;

/// How often a backend has to show that it is alive, unless the file says so.
const INTERVAL: Duration = Duration::from_secs(1);

/// More often is a burden, and what breaks is seen at once anyway; less often
/// than once a minute is no check.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// How long a backend may take to answer, unless the file says so.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Within a millisecond nobody answers over a network.
const LEAST_TIMEOUT: Duration = Duration::from_millis(10);

/// Failures in a row that make a backend unhealthy, unless the file says so: one
/// or two are a pause of its garbage collector, or a lost packet.
const UNHEALTHY: u32 = 3;

/// Good answers in a row that make it healthy.
const HEALTHY: u32 = 1;

const THRESHOLDS: (u32, u32) = (1, 100);

/// Names of health services are names of gRPC services, or one's own.
const MAX_SERVICE_LEN: usize = 255;

const EXAMPLE: &str = "{ kind = \"grpc\" }";

/// `outer` is the service's TLS.
pub(super) fn read(
    node: &Node<'_>,
    outer: Option<&Arc<BackendTls>>,
    faults: &mut Faults,
) -> Option<HealthConfig> {
    let mut table = node.table(faults, EXAMPLE)?;
    let kind = read_kind(&mut table, outer, faults);
    let interval = table.take("interval");
    let interval =
        interval.and_then(|node| node.duration(faults, "\"1s\"", INTERVALS, MILLISECOND));
    let interval = interval.unwrap_or(INTERVAL);
    let timeout = table.take("timeout");
    let timeout = timeout.and_then(|node| {
        let range = (LEAST_TIMEOUT, INTERVALS.1);
        let timeout = node.duration(faults, "\"500ms\"", range, MILLISECOND)?;
        if timeout > interval {
            let show = humantime::format_duration;
            let message = format!(
                "the timeout ({}) is longer than the interval ({}); write a shorter timeout or \
                 a longer interval",
                show(timeout),
                show(interval)
            );
            faults.clash(&node.place, message);
        }
        Some(timeout)
    });
    let port = table.take("port");
    let port = port.and_then(|node| node.port(faults, "50052"));
    let unhealthy = table.take("unhealthy_threshold");
    let unhealthy = unhealthy.and_then(|node| node.whole(faults, "3", THRESHOLDS));
    let healthy = table.take("healthy_threshold");
    let healthy = healthy.and_then(|node| node.whole(faults, "1", THRESHOLDS));
    table.finish(faults, &[]);
    Some(HealthConfig {
        kind: kind?,
        interval,
        timeout: timeout.unwrap_or_else(|| TIMEOUT.min(interval)),
        port,
        unhealthy_threshold: unhealthy.unwrap_or(UNHEALTHY),
        healthy_threshold: healthy.unwrap_or(HEALTHY),
    })
}

fn read_kind(
    table: &mut Table<'_>,
    outer: Option<&Arc<BackendTls>>,
    faults: &mut Faults,
) -> Option<HealthKind> {
    let kind = table.require("kind", faults, "\"grpc\"");
    let kind = kind.and_then(|node| {
        let kind = node.text(faults, "\"grpc\"")?;
        if !["grpc", "tcp"].contains(&kind) {
            let message =
                format!("there is no kind of health check `{kind}`; there are `grpc` and `tcp`");
            faults.wrong(&node.place, message);
            return None;
        }
        Some(kind)
    });
    let service = table.take("service");
    let authority = table.take("authority");
    if kind == Some("tcp") {
        let tls = table.take("tls");
        for node in service.iter().chain(&authority).chain(&tls) {
            let message = "a tcp check only connects and says nothing; remove it, or write \
                           kind = \"grpc\"";
            faults.clash(&node.place, message);
        }
        return Some(HealthKind::Tcp);
    }
    let service = service.and_then(|node| {
        let service = node.text(faults, "\"helloworld.Greeter\"")?;
        if service.len() > MAX_SERVICE_LEN {
            let message = format!(
                "a name of {} bytes; write at most {MAX_SERVICE_LEN}",
                service.len()
            );
            faults.wrong(&node.place, message);
        }
        Some(service.to_owned())
    });
    let authority = authority.and_then(|node| node.authority(faults));
    let tls = tls::inherit(table, outer, faults);
    kind.map(|_| HealthKind::Grpc {
        service: service.unwrap_or_default(),
        authority,
        tls,
    })
}
