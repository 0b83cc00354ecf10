//! Keys that only a restart applies.

use std::net::SocketAddr;

use crate::config::{BalancerConfig, Config};

/// Puts back what cannot change while the balancer runs, and names the keys in
/// which the file differs: sockets are bound once, which files TLS reads is
/// settled with them (what is in those files is not), and connections are told at
/// their start how they will end.
pub(super) fn keep_running(running: &Config, config: &mut Config) -> Vec<&'static str> {
    let mut keep = Keep::default();
    let (balancer, runs) = (&mut config.balancer, &running.balancer);
    // Unstated, what is advertised is what is listened on: not the file's
    // address, but the one that was bound.
    if stated_advertise(balancer).is_empty() {
        if stated_advertise(runs).is_empty() {
            balancer.advertise.clone_from(&runs.advertise);
        } else if runs.listen.ip().to_canonical().is_unspecified() {
            let (runs, advertise) = (&runs.advertise, &mut balancer.advertise);
            keep.value("balancer.advertise", runs, advertise);
        } else {
            balancer.advertise = runs.default_advertise();
        }
    }
    keep.value("balancer.listen", &runs.listen, &mut balancer.listen);
    keep.value("balancer.shutdown", &runs.shutdown, &mut balancer.shutdown);
    keep.value("balancer.state", &runs.state, &mut balancer.state);
    keep.value("balancer.tls", &runs.tls, &mut balancer.tls);
    keep.value(
        "admin.listen",
        &running.admin.listen,
        &mut config.admin.listen,
    );
    keep.value(
        "admin.metrics_interval",
        &running.admin.metrics_interval,
        &mut config.admin.metrics_interval,
    );
    keep.value("limits", &running.limits, &mut config.limits);
    match (&running.dns, &mut config.dns) {
        (Some(runs), Some(dns)) => {
            keep.value("dns.listen", &runs.listen, &mut dns.listen);
        }
        (runs, dns) => keep.value("dns", runs, dns),
    }
    keep.restart
}

/// Keys whose values were put back.
#[derive(Debug, Default)]
struct Keep {
    restart: Vec<&'static str>,
}

impl Keep {
    fn value<T: PartialEq + Clone>(&mut self, key: &'static str, runs: &T, value: &mut T) {
        if value != runs {
            self.restart.push(key);
            value.clone_from(runs);
        }
    }
}

fn stated_advertise(balancer: &BalancerConfig) -> &[SocketAddr] {
    if balancer.advertise == [balancer.listen] {
        &[]
    } else {
        &balancer.advertise
    }
}
