//! What is different between two configurations, in the words of the file and in
//! one line, however many services there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::{BackendConfig, BalancerConfig, Config, DnsConfig, ServiceConfig};
use lookaside_core::model::{BackendAddr, ServiceName};
use lookaside_core::weights::{ReportSettings, WeightSettings};

/// So many services are named of each kind; of the others it says how many.
const NAMED: usize = 10;

/// What a changed file changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services that were not there before, in the order of the file.
    pub added: Vec<ServiceName>,
    /// Services that are not there any more.
    pub removed: Vec<ServiceName>,
    /// Services of which something changed, and what.
    pub changed: Vec<(ServiceName, Vec<Change>)>,
    /// Keys outside of services.
    pub keys: Vec<&'static str>,
}

/// What changed of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The value of a key.
    Key(&'static str),
    /// So many backends are there that were not.
    Added(usize),
    /// So many backends are not there any more.
    Removed(usize),
    /// Keys of backends that stay, and of how many.
    Backends {
        /// Those of which at least one backend has another value.
        keys: Vec<&'static str>,
        /// How many backends differ.
        count: usize,
    },
}

impl Changes {
    /// What `new` changes of `old`.
    #[must_use]
    pub fn between(old: &Config, new: &Config) -> Self {
        let before = by_name(old);
        let after = by_name(new);
        let of = |services: &[ServiceConfig], others: &BTreeMap<_, _>| {
            let services = services.iter().map(|service| &service.name);
            let missing = services.filter(|name| !others.contains_key(*name));
            missing.cloned().collect()
        };
        let changed = new.services.iter().filter_map(|service| {
            let before = before.get(&service.name)?;
            let changes = of_service(before, service);
            (!changes.is_empty()).then(|| (service.name.clone(), changes))
        });
        Self {
            added: of(&new.services, &before),
            removed: of(&old.services, &after),
            changed: changed.collect(),
            keys: keys(old, new),
        }
    }
}

impl fmt::Display for Changes {
    /// `added a, b; removed c; changed d (weight of 2 backends; drop)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (what, services) in [("added", &self.added), ("removed", &self.removed)] {
            if !services.is_empty() {
                parts.push(format!("{what} {}", listed(services, ToString::to_string)));
            }
        }
        if !self.changed.is_empty() {
            let one = |(name, changes): &(ServiceName, Vec<Change>)| {
                let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                format!("{name} ({})", changes.join(", "))
            };
            parts.push(format!("changed {}", listed(&self.changed, one)));
        }
        if !self.keys.is_empty() {
            parts.push(format!("set {}", self.keys.join(", ")));
        }
        if parts.is_empty() {
            parts.push("reordered services or backends".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backends = |count: usize| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} backend{plural}")
        };
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Added(count) => write!(f, "{} added", backends(*count)),
            Self::Removed(count) => write!(f, "{} removed", backends(*count)),
            Self::Backends { keys, count } => {
                write!(f, "{} of {}", keys.join(" and "), backends(*count))
            }
        }
    }
}

fn listed<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = items.iter().take(NAMED).map(show).collect();
    let shown = shown.join(", ");
    match items.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn by_name(config: &Config) -> BTreeMap<&ServiceName, &ServiceConfig> {
    let services = config.services.iter();
    services.map(|service| (&service.name, service)).collect()
}

fn of_service(old: &ServiceConfig, new: &ServiceConfig) -> Vec<Change> {
    // Without `..`: a new field does not compile until its key is named below.
    let ServiceConfig {
        name: _,
        aliases,
        drops,
        overload,
        fallback_port,
        dial,
        register,
        health,
        load,
        matches,
        weights,
        subset,
        prefer_zone,
        tls,
        backends,
    } = new;
    let WeightSettings {
        policy,
        shadow,
        blend,
        slow_start,
        ejection,
        reports,
        metrics,
    } = weights;
    let before = &old.weights;
    let window = |reports: &ReportSettings| reports.load_window;
    let penalty = |reports: &ReportSettings| reports.error_penalty;
    let same = [
        ("aliases", *aliases == old.aliases),
        ("drop", *drops == old.drops),
        ("overload", *overload == old.overload),
        ("fallback_port", *fallback_port == old.fallback_port),
        ("cidrs", *dial == old.dial),
        ("register", *register == old.register),
        ("health", *health == old.health),
        ("load", *load == old.load),
        ("match", *matches == old.matches),
        ("policy", *policy == before.policy),
        ("shadow", *shadow == before.shadow),
        ("blend", *blend == before.blend),
        ("slow_start", *slow_start == before.slow_start),
        ("ejection", *ejection == before.ejection),
        ("load_window", window(reports) == window(&before.reports)),
        (
            "error_penalty",
            penalty(reports) == penalty(&before.reports),
        ),
        ("load_metrics", *metrics == before.metrics),
        ("subset", *subset == old.subset),
        ("prefer_zone", *prefer_zone == old.prefer_zone),
        ("tls", *tls == old.tls),
    ];
    let mut changes = of_backends(&old.backends, backends);
    changes.extend(differing(same).map(Change::Key));
    changes
}

fn of_backends(old: &[BackendConfig], new: &[BackendConfig]) -> Vec<Change> {
    let before: BTreeMap<BackendAddr, &BackendConfig> = old
        .iter()
        .map(|backend| (backend.address, backend))
        .collect();
    let (mut added, mut stay, mut changed) = (0, 0, 0);
    let mut keys = BTreeSet::new();
    for backend in new {
        let Some(old) = before.get(&backend.address) else {
            added += 1;
            continue;
        };
        stay += 1;
        let same = [
            ("drain", backend.drain == old.drain),
            ("labels", backend.labels == old.labels),
            ("weight", backend.weight == old.weight),
            ("zone", backend.zone == old.zone),
        ];
        changed += usize::from(*old != backend);
        keys.extend(differing(same));
    }
    let removed = before.len() - stay;
    let mut changes = Vec::new();
    changes.extend((added > 0).then_some(Change::Added(added)));
    changes.extend((removed > 0).then_some(Change::Removed(removed)));
    changes.extend((changed > 0).then(|| Change::Backends {
        keys: keys.into_iter().collect(),
        count: changed,
    }));
    changes
}

fn keys(old: &Config, new: &Config) -> Vec<&'static str> {
    let (balancer, before) = (&new.balancer, &old.balancer);
    let dns = |config: &Config| config.dns.clone().unwrap_or_default();
    let (dns, dns_before) = (dns(new), dns(old));
    let interval = |balancer: &BalancerConfig| balancer.report_interval;
    let service_config = |dns: &DnsConfig| dns.service_config;
    let same = [
        ("balancer.advertise", balancer.advertise == before.advertise),
        (
            "balancer.report_interval",
            interval(balancer) == interval(before),
        ),
        ("dns.ttl", dns.ttl == dns_before.ttl),
        ("dns.target", dns.target == dns_before.target),
        (
            "dns.service_config",
            service_config(&dns) == service_config(&dns_before),
        ),
        ("backend_tls", new.backend_tls == old.backend_tls),
        ("zone", new.zones == old.zones),
    ];
    differing(same).collect()
}

/// Those of these keys whose values are not the same.
fn differing<const N: usize>(
    same: [(&'static str, bool); N],
) -> impl Iterator<Item = &'static str> {
    let differing = same.into_iter().filter(|(_, same)| !same);
    differing.map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn service(name: &str, lines: &str) -> String {
        format!("[[service]]\nname = \"{name}\"\n{lines}\n")
    }

    fn backends(weights: &[u32]) -> String {
        let entry = |(host, weight): (usize, &u32)| {
            format!(
                "{{ address = \"10.0.0.{}:80\", weight = {weight} }}",
                host + 1
            )
        };
        let entries: Vec<String> = weights.iter().enumerate().map(entry).collect();
        format!("backends = [{}]", entries.join(", "))
    }

    fn told(old: &str, new: &str) -> String {
        let [old, new] = [old, new].map(|text| parse(text, "f").unwrap());
        Changes::between(&old, &new).to_string()
    }

    #[test]
    fn services_and_their_keys_are_named_as_in_the_file() {
        let old = service("a", &backends(&[1, 1, 1])) + &service("b", "") + &service("c", "");
        let new = service("a", &format!("{}\ndrop = {{ x = 0.5 }}", backends(&[1, 2])))
            + &service("c", "policy = \"feedback\"\nload = { kind = \"orca\" }")
            + &service("d", "");
        assert_eq!(
            told(&old, &new),
            "added d; removed b; changed a (1 backend removed, weight of 1 backend, drop), \
             c (load, policy)"
        );
        assert_eq!(
            told(
                &service("a", &backends(&[1])),
                &service("a", &backends(&[1, 1, 1]))
            ),
            "changed a (2 backends added)"
        );
    }

    #[test]
    fn keys_outside_of_services_are_named() {
        let text = service("a", "");
        let new = format!("[balancer]\nreport_interval = \"7s\"\n{text}");
        assert_eq!(told(&text, &new), "set balancer.report_interval");
    }

    #[test]
    fn another_order_is_a_change_too() {
        let (a, b) = (service("a", ""), service("b", ""));
        assert_eq!(
            told(&format!("{a}{b}"), &format!("{b}{a}")),
            "reordered services or backends"
        );
    }

    #[test]
    fn a_thousand_changes_are_one_short_line() {
        let all = |weight| {
            let each = |i: usize| service(&format!("s{i}"), &backends(&[weight]));
            (0..1000).map(each).collect::<String>()
        };
        let line = told(&all(1), &all(2));
        assert!(
            line.contains("s9 (weight of 1 backend) and 990 more"),
            "{line}"
        );
        assert!(line.len() < 1000, "{line}");
    }
}
