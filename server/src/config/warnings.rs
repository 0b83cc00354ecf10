//! What is valid, and cannot work as it seems to be meant.
//!
//! A fault keeps a file from being used, and so a balancer from being started; of
//! what only has no effect, or another than hoped for, one is warned.

use std::collections::BTreeMap;

use super::{Config, LoadKind, ServiceConfig, unreachable};
use lookaside_core::model::BackendAddr;
use lookaside_core::weights::PolicyChoice;

/// What is said of a configuration, each with its service, its key and what would
/// be right; in the order of the file.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let mut learning = BTreeMap::new();
    let mut warnings = Vec::new();
    warnings.extend(unreachable::of_balancer(config));
    for service in &config.services {
        let all = [
            told_nothing(service),
            without_calls(service),
            blend_of_nothing(service),
            zone_of_nobody(service, config),
            shared(service, &mut learning),
            undialled(service),
            unreachable::itself(service, config),
            unreachable::fallback_of_nobody(service),
            unreachable::match_of_nobody(service),
        ];
        let all = all.into_iter().flatten();
        warnings.extend(all.map(|warning| format!("service `{}`: {warning}", service.name)));
    }
    warnings
}

/// Backends that should be checked or asked, and will not be; or that are no backends.
fn undialled(service: &ServiceConfig) -> Option<String> {
    let mut addresses = service.backends.iter().map(|backend| backend.address);
    let (addr, what) = addresses.find_map(|addr| Some((addr, service.dial.refuse(addr.ip())?)))?;
    if service.health.is_some() || !service.load.is_empty() {
        return Some(format!(
            "backend {addr} is {what}, and is neither checked nor asked for its load; \
             if it is meant, write cidrs = [\"…\"] at the service, with all its networks"
        ));
    }
    (!service.dial.is_stated()).then(|| {
        format!(
            "backend {addr} is {what}: clients are sent there, and the balancer never looks \
             whether it is alive; correct it, or write cidrs = [\"…\"] at the service, with all \
             its networks"
        )
    })
}

/// The keys of a service that name a policy, and which.
fn policies(service: &ServiceConfig) -> impl Iterator<Item = (&'static str, PolicyChoice)> {
    let shadow = service.weights.shadow.map(|shadow| ("shadow", shadow));
    [("policy", service.weights.policy)]
        .into_iter()
        .chain(shadow)
}

/// Whether anybody tells of its backends' load.
fn is_told(service: &ServiceConfig) -> bool {
    !service.load.is_empty() || service.register.is_some()
}

fn told_nothing(service: &ServiceConfig) -> Option<String> {
    let asked =
        "write load = { kind = \"orca\" }, or register for backends that tell it themselves";
    if is_told(service) {
        return None;
    }
    let mut learning = policies(service).filter(|(_, policy)| *policy != PolicyChoice::STATIC);
    if let Some((key, policy)) = learning.next() {
        let policy = policy.name();
        return Some(format!(
            "{key} = \"{policy}\" is told of no backend's load, so weights stay the operator's; {asked}"
        ));
    }
    service.overload.map(|_| {
        format!("overload is told of no backend's load, so no call is dropped for it; {asked}")
    })
}

/// `weighted_round_robin` where nobody says how many calls there are.
fn without_calls(service: &ServiceConfig) -> Option<String> {
    let counted = service.load.iter().any(|load| match &load.kind {
        LoadKind::Orca => true,
        LoadKind::LoadReport { .. } => false,
        LoadKind::Prometheus(page) => page.requests.is_some(),
    });
    if counted || service.register.is_some() || service.load.is_empty() {
        return None;
    }
    let (key, _) = policies(service).find(|(_, p)| *p == PolicyChoice::WEIGHTED_ROUND_ROBIN)?;
    Some(format!(
        "{key} = \"weighted_round_robin\" needs calls per second, which no load of this service \
         has, so weights stay the operator's; write {key} = \"feedback\", or load = {{ kind = \
         \"orca\" }} (or a \"prometheus\" page with requests)"
    ))
}

fn blend_of_nothing(service: &ServiceConfig) -> Option<String> {
    let weights = &service.weights;
    (weights.policy == PolicyChoice::STATIC && weights.blend < 1.0).then(|| {
        format!(
            "blend = {} is of no effect with policy = \"static\"; write policy = \"feedback\" \
             beside it, or remove it",
            weights.blend
        )
    })
}

/// Zones are preferred, and backends stand in none, or in one that has no clients.
fn zone_of_nobody(service: &ServiceConfig, config: &Config) -> Option<String> {
    if !service.prefer_zone {
        return None;
    }
    let matched = service.matches.iter().filter_map(|said| said.zone.as_ref());
    let listed = service.backends.iter().filter_map(|b| b.zone.as_ref());
    let mut zones = listed.chain(matched).peekable();
    if zones.peek().is_none() {
        // Who registers says it.
        let silent = service.register.is_none() && !service.backends.is_empty();
        return silent.then(|| {
            "prefer_zone = true is of no effect, for no backend has a zone; write zone = \"…\" at \
             the backends, or remove it"
                .to_owned()
        });
    }
    let known = config.zones.zones();
    let zone = zones.find(|zone| !known.contains(zone))?;
    Some(format!(
        "prefer_zone = true, and `{zone}` is the zone of a backend and of no client; write \
         [[zone]] with name = \"{zone}\" and cidrs, or correct it"
    ))
}

/// A backend of two services that learn: each takes the other's calls for its own.
/// Only `feedback` is misled, for it compares calls with what it published.
fn shared<'a>(
    service: &'a ServiceConfig,
    learning: &mut BTreeMap<BackendAddr, &'a ServiceConfig>,
) -> Option<String> {
    let policy = service.weights.policy;
    if policy == PolicyChoice::STATIC || !is_told(service) {
        return None;
    }
    let mut found = None;
    for backend in &service.backends {
        let first = *learning.entry(backend.address).or_insert(service);
        let both = [policy, first.weights.policy];
        if first.name != service.name && both.contains(&PolicyChoice::FEEDBACK) {
            found.get_or_insert((backend.address, first));
        }
    }
    let (address, first) = found?;
    Some(format!(
        "policy = \"{}\", and `{}` learns from backend {address} too; a backend reports of its \
         whole process, so each takes the other's calls for its own; write policy = \"static\" \
         for one of them, or one service with aliases",
        policy.name(),
        first.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const BACKENDS: &str = "backends = [{ address = \"10.0.0.1:80\" }]\n";

    fn warned(text: &str) -> Vec<String> {
        warnings(&parse(text, "f").unwrap())
    }

    /// Of a service with these further lines.
    fn of(lines: &str) -> Vec<String> {
        warned(&format!("[[service]]\nname = \"a\"\n{lines}\n{BACKENDS}"))
    }

    /// The one warning, without its service.
    fn one(lines: &str) -> String {
        let mut all = of(lines);
        assert_eq!(all.len(), 1, "{lines}: {all:?}");
        let warning = all.remove(0);
        let warning = warning.strip_prefix("service `a`: ").expect(&warning);
        warning.to_owned()
    }

    #[track_caller]
    fn has(warning: &str, parts: &[&str]) {
        for part in parts {
            assert!(warning.contains(part), "{part} in {warning}");
        }
    }

    #[test]
    fn who_learns_and_is_told_nothing_is_warned() {
        for policy in ["weighted_round_robin", "feedback"] {
            for key in ["policy", "shadow"] {
                let line = format!("{key} = \"{policy}\"");
                has(&one(&line), &[&line, "stay the operator's", "write load ="]);
                assert!(of(&format!("{line}\nload = {{ kind = \"orca\" }}")).is_empty());
                assert!(
                    of(&format!(
                        "{line}\nregister = {{ cidrs = [\"10.0.0.0/8\"] }}"
                    ))
                    .is_empty()
                );
            }
        }
        let overload = "overload = { utilization = 0.9 }";
        has(&one(overload), &["overload is told", "write load ="]);
        assert!(of(&format!("{overload}\nload = {{ kind = \"orca\" }}")).is_empty());
        assert!(of("").is_empty());
    }

    #[test]
    fn weighted_round_robin_without_calls_is_warned_of() {
        let score = "{ kind = \"load_report\", capacity = 100 }";
        for key in ["policy", "shadow"] {
            let line = format!("{key} = \"weighted_round_robin\"");
            let wanted = [line.as_str(), "calls per second", "write"];
            has(&one(&format!("{line}\nload = {score}")), &wanted);
            let page = "{ kind = \"prometheus\", utilization = \"busy\" }";
            has(&one(&format!("{line}\nload = [{score}, {page}]")), &wanted);
            assert!(of(&format!("{line}\nload = [{{ kind = \"orca\" }}, {score}]")).is_empty());
        }
        assert!(of(&format!("policy = \"feedback\"\nload = {score}")).is_empty());
    }

    #[test]
    fn a_blend_of_nothing_is_warned_of() {
        has(
            &one("blend = 0.25"),
            &["blend = 0.25", "\"static\"", "remove it"],
        );
        assert!(of("blend = 1.0").is_empty());
        let learns = "policy = \"feedback\"\nload = { kind = \"orca\" }";
        assert!(of(&format!("{learns}\nblend = 0.25")).is_empty());
    }

    #[test]
    fn zones_that_no_backend_or_no_client_has_are_warned_of() {
        let zoned = |lines: &str| {
            warned(&format!(
                "[[zone]]\nname = \"east\"\ncidrs = [\"10.1.0.0/16\"]\n\
                 [[service]]\nname = \"a\"\nprefer_zone = true\n{lines}"
            ))
        };
        let none = zoned(BACKENDS);
        assert_eq!(none.len(), 1, "{none:?}");
        has(&none[0], &["prefer_zone = true", "no backend has a zone"]);
        let at = |zone: &str| BACKENDS.replace(" }]", &format!(", zone = \"{zone}\" }}]"));
        let unknown = zoned(&at("eats"));
        assert_eq!(unknown.len(), 1, "{unknown:?}");
        has(&unknown[0], &["prefer_zone = true", "`eats`", "[[zone]]"]);
        let said = zoned(&format!(
            "match = [{{ labels = {{ rack = \"1\" }}, zone = \"eats\" }}]\n{}",
            BACKENDS.replace(" }]", ", labels = { rack = \"1\" } }]")
        ));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(zoned(&at("east")).is_empty());
        assert!(
            zoned(&format!(
                "register = {{ cidrs = [\"10.0.0.0/8\"] }}\n{BACKENDS}"
            ))
            .is_empty()
        );
        assert!(of("prefer_zone = false").is_empty());
    }

    #[test]
    fn a_backend_that_is_not_dialled_is_warned_of() {
        let local = "[[service]]\nname = \"a\"\nload = { kind = \"orca\" }\n\
                     backends = [{ address = \"169.254.0.1:80\" }]\n";
        let all = warned(local);
        assert_eq!(all.len(), 1, "{all:?}");
        has(
            &all[0],
            &["service `a`: backend 169.254.0.1:80 is", "cidrs"],
        );
    }

    #[test]
    fn services_that_learn_from_the_same_backends_are_warned_of() {
        let two = |a: &str, b: &str| {
            let service = |name: &str, policy: &str| {
                format!(
                    "[[service]]\nname = \"{name}\"\npolicy = \"{policy}\"\n\
                     load = {{ kind = \"orca\" }}\n{BACKENDS}"
                )
            };
            warned(&(service("a", a) + &service("b", b)))
        };
        for (a, b) in [
            ("feedback", "feedback"),
            ("weighted_round_robin", "feedback"),
        ] {
            let all = two(a, b);
            assert_eq!(all.len(), 1, "{all:?}");
            let of = format!("service `b`: policy = \"{b}\"");
            has(
                &all[0],
                &[&of, "`a`", "10.0.0.1:80", "\"static\"", "aliases"],
            );
        }
        assert!(two("feedback", "static").is_empty());
        assert!(two("weighted_round_robin", "weighted_round_robin").is_empty());
    }
}
