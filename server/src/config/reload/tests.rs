//! Files that changed, cut short ones among them.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::DnsConfig;
use lookaside_core::model::Weight;

/// What becomes of a text if only the file lists backends.
fn reloaded(config: &Config, text: &str, file: &str, allowed: Allowed) -> Outcome {
    let elsewhere = &BTreeSet::new();
    reload(Running { config, elsewhere }, text, file, allowed)
}

const FILE: &str = r#"
[balancer]
listen = "0.0.0.0:9000"
advertise = ["10.0.0.5:9000", "10.0.0.6:9000"]
report_interval = "5s"

[balancer.tls]
cert = "server.pem"
key = "server.key"

[admin]
listen = "127.0.0.1:9001"

[dns]
listen = "0.0.0.0:9053"
ttl = "5s"

[[service]]
name = "greeter.example.com"
aliases = ["greeter"]
drop = { maintenance = 0.05 }
backends = [
  { address = "10.0.1.1:50051", weight = 3 },
  { address = "10.0.1.2:50051", drain = true },
]

[[service]]
name = "teller.example.com"
fallback_port = 50051

[[service.backends]]
address = "10.0.2.1:50051"
weight = 12.5

[[service.backends]]
address = "10.0.2.2:50051"
zone = "a"
"#;

fn running() -> Config {
    parse(FILE, "test").unwrap()
}

fn outcome(text: &str) -> Outcome {
    reloaded(&running(), text, "lookaside.toml", Allowed::Some)
}

fn applied(text: &str) -> (Config, Vec<&'static str>) {
    match outcome(text) {
        Outcome::Applied {
            config, restart, ..
        } => (*config, restart),
        other => panic!("{other:?}"),
    }
}

fn refusal(text: &str) -> String {
    match outcome(text) {
        Outcome::Refused(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_the_same_is_unchanged() {
    let restart = vec![];
    assert_eq!(outcome(FILE), Outcome::Unchanged { restart });
    let restart = vec![];
    let text = format!("# a comment\n{FILE}");
    assert_eq!(outcome(&text), Outcome::Unchanged { restart });
}

#[test]
fn a_changed_weight_is_applied_and_needs_no_restart() {
    let (config, restart) = applied(&FILE.replace("weight = 3", "weight = 5"));
    let weight = config.services[0].backends[0].weight.unwrap();
    assert_eq!(weight.value(), 5.0);
    assert!(restart.is_empty());
}

#[test]
fn sockets_tls_paths_and_dns_wait_for_a_restart_while_the_rest_is_applied() {
    let text = FILE
        .replace("0.0.0.0:9000", "0.0.0.0:9900")
        .replace("10.0.0.6:9000", "10.0.0.7:9000")
        .replace("server.pem", "other.pem")
        .replace("127.0.0.1:9001", "127.0.0.1:9901")
        .replace("0.0.0.0:9053", "0.0.0.0:9953")
        .replace(
            "ttl = \"5s\"",
            "ttl = \"7s\"\ntarget = \"lb\"\nservice_config = false",
        )
        .replace(
            "report_interval = \"5s\"",
            "report_interval = \"6s\"\nshutdown = \"7s\"",
        )
        .replace("weight = 3", "weight = 5");
    let (config, restart) = applied(&text);
    assert_eq!(
        restart,
        [
            "balancer.listen",
            "balancer.shutdown",
            "balancer.tls",
            "admin.listen",
            "dns.listen",
        ]
    );
    let mut wanted = running();
    wanted.balancer.advertise[1] = "10.0.0.7:9000".parse().unwrap();
    wanted.dns = Some(DnsConfig {
        ttl: Duration::from_secs(7),
        target: Some("lb".to_owned()),
        service_config: false,
        ..wanted.dns.unwrap()
    });
    wanted.balancer.report_interval = Duration::from_secs(6);
    wanted.services[0].backends[0].weight = Some(Weight::new(5.0).unwrap());
    assert_eq!(config, wanted);

    // Once the file is back to what runs, nothing waits any more.
    let text = FILE.replace("weight = 3", "weight = 5");
    let back = reloaded(&config, &text, "lookaside.toml", Allowed::Some);
    assert!(matches!(back, Outcome::Applied { restart, .. } if restart.is_empty()));
}

#[test]
fn dns_is_switched_by_a_restart_and_answers_until_then() {
    let start = FILE.find("[dns]").unwrap();
    let end = FILE.find("[[service]]").unwrap();
    let without = format!("{}{}", &FILE[..start], &FILE[end..]);
    let advertise = "advertise = [\"10.0.0.5:9000\", \"10.0.0.6:9000\"]\n";
    let without = without.replace(advertise, "");
    let restart = vec!["balancer.advertise", "dns"];
    assert_eq!(outcome(&without), Outcome::Unchanged { restart });

    let running = parse(&without, "test").unwrap();
    let switched_on = reloaded(&running, FILE, "test", Allowed::Some);
    let Outcome::Applied {
        config, restart, ..
    } = switched_on
    else {
        panic!("what is advertised is applied")
    };
    assert_eq!((restart, config.dns), (vec!["dns"], None));
    assert_eq!(config.balancer.advertise.len(), 2);
}

#[test]
fn replicas_are_added_without_a_restart() {
    let (config, restart) =
        applied(&FILE.replace("\"10.0.0.6:9000\"", "\"10.0.0.6:9000\", \"10.0.0.8:9000\""));
    assert!(restart.is_empty());
    assert_eq!(config.balancer.advertise.len(), 3);
}

#[test]
fn an_unstated_advertise_follows_the_socket_that_is_bound() {
    let file = |port| format!("balancer.listen = \"10.0.0.1:{port}\"\n[dns]\n");
    let running = parse(&file(1), "test").unwrap();
    let restart = vec!["balancer.listen"];
    assert_eq!(
        reloaded(&running, &file(2), "test", Allowed::Some),
        Outcome::Unchanged { restart }
    );

    let stated = parse(
        "balancer.listen = \"10.0.0.1:1\"\nbalancer.advertise = [\"10.0.0.9:1\"]\n[dns]\n",
        "test",
    );
    let Outcome::Applied {
        config, restart, ..
    } = reloaded(&stated.unwrap(), &file(2), "test", Allowed::Some)
    else {
        panic!("the file says something else")
    };
    assert_eq!(restart, ["balancer.listen"]);
    assert_eq!(config.balancer.advertise, ["10.0.0.1:1".parse().unwrap()]);
}

#[test]
fn a_file_without_services_is_refused() {
    let text = &FILE[..FILE.find("[[service]]").unwrap()];
    let refusal = refusal(text);
    assert!(refusal.contains("2 are running"), "{refusal}");
    assert!(refusal.contains("lookaside drain"), "{refusal}");
    assert!(refusal.contains("--allow-empty"), "{refusal}");
    let allowed = reloaded(&running(), text, "test", Allowed::Everything);
    assert!(matches!(allowed, Outcome::Applied { config, .. } if config.services.is_empty()));
}

/// A file of services of one backend each.
fn services(names: &[&str]) -> String {
    let service = |name: &&str| {
        format!("[[service]]\nname = \"{name}\"\nbackends = [{{ address = \"10.0.0.1:80\" }}]\n")
    };
    names.iter().map(service).collect()
}

/// What becomes of these services when the file has those.
fn from_to(old: &[&str], new: &[&str], allowed: Allowed) -> Outcome {
    let running = parse(&services(old), "test").unwrap();
    reloaded(&running, &services(new), "lookaside.toml", allowed)
}

#[test]
fn most_services_do_not_vanish_at_once() {
    let cut = from_to(&["a", "b", "c"], &["a"], Allowed::Some);
    let Outcome::Refused(refusal) = cut else {
        panic!("{cut:?}")
    };
    assert_eq!(
        refusal.to_string(),
        "lookaside.toml: 2 of 3 services are gone (`b`, `c`); a file that is cut short looks \
         like this"
    );
    for allowed in [Allowed::MostServices, Allowed::Everything] {
        let outcome = from_to(&["a", "b", "c"], &["a"], allowed);
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    }
    let renamed = from_to(&["a", "b", "c", "d"], &["a", "x", "y", "z"], Allowed::Some);
    assert!(matches!(renamed, Outcome::Refused(_)), "{renamed:?}");
    let none = from_to(&["a", "b", "c"], &[], Allowed::MostServices);
    assert!(matches!(none, Outcome::Refused(_)), "{none:?}");
}

#[test]
fn one_service_or_half_of_them_may_vanish_at_once() {
    for (old, new) in [
        (&["a", "b"][..], &["a"][..]),
        (&["a"], &["b"]),
        (&["a", "b", "c", "d"], &["a", "b"]),
        (&["a", "b", "c", "d", "e"], &["a", "b", "c"]),
    ] {
        let outcome = from_to(old, new, Allowed::Some);
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    }
}

#[test]
fn a_service_that_becomes_an_alias_has_not_vanished() {
    let running = parse(&services(&["a", "b", "c"]), "test").unwrap();
    let text = services(&["a"]).replace("backends", "aliases = [\"b\", \"c\"]\nbackends");
    let outcome = reloaded(&running, &text, "test", Allowed::Some);
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
}

#[test]
fn backends_that_register_keep_a_service_from_being_empty() {
    let register = "register = { cidrs = [\"10.0.0.0/8\"] }\n";
    let open = format!("[[service]]\nname = \"a\"\n{register}");
    let both = format!("{open}backends = [{{ address = \"10.0.0.1:80\" }}]\n");
    let closed = "[[service]]\nname = \"a\"\n";
    let outcome = |old: &str, registered: bool, new: &str| {
        let config = &parse(old, "test").unwrap();
        let elsewhere = registered.then(|| config.services[0].name.clone());
        let elsewhere = &elsewhere.into_iter().collect();
        reload(Running { config, elsewhere }, new, "test", Allowed::Some)
    };
    let taken_out = outcome(&both, true, &open);
    assert!(
        matches!(taken_out, Outcome::Applied { .. }),
        "{taken_out:?}"
    );
    // Nobody has registered, or nobody may any more: it would be empty.
    for (old, registered, new) in [
        (&both, false, open.as_str()),
        (&both, true, closed),
        (&open, true, closed),
    ] {
        let emptied = outcome(old, registered, new);
        let Outcome::Refused(Refusal::NoBackends { .. }) = emptied else {
            panic!("{old} to {new}: {emptied:?}")
        };
    }
    let empty = outcome(&open, false, closed);
    assert!(matches!(empty, Outcome::Applied { .. }), "{empty:?}");
}

#[test]
fn a_service_that_would_lose_all_backends_is_named() {
    let start = FILE.find("[[service.backends]]").unwrap();
    let refusal = refusal(&FILE[..start]);
    assert!(
        refusal.starts_with("lookaside.toml: `teller.example.com` has no backends any more"),
        "{refusal}"
    );
    let allowed = reloaded(&running(), &FILE[..start], "test", Allowed::Everything);
    assert!(matches!(allowed, Outcome::Applied { .. }));
}

#[test]
fn a_service_may_be_removed_or_drained_or_added_empty() {
    let second = FILE.rfind("[[service]]").unwrap();
    let (config, _) = applied(&FILE[..second]);
    assert_eq!(config.services.len(), 1);
    let drained = FILE.replace("weight = 3", "drain = true");
    let (config, _) = applied(&drained);
    assert!(
        config.services[0]
            .backends
            .iter()
            .all(|b| b.drain == Some(true))
    );
    let (config, _) = applied(&format!("{FILE}\n[[service]]\nname = \"new\"\n"));
    assert_eq!(config.services.len(), 3);
}

#[test]
fn an_invalid_file_is_refused_with_its_places() {
    let refusal = refusal(&FILE.replace("weight = 3", "weight = -3"));
    assert!(
        refusal.starts_with("lookaside.toml:23:42: service[0].backends[0].weight: "),
        "{refusal}"
    );
}

/// No service that is still there has lost its last backend, and most are there.
fn no_service_is_emptied(old: &Config, outcome: &Outcome) -> Result<(), TestCaseError> {
    let Outcome::Applied { config, .. } = outcome else {
        return Ok(());
    };
    prop_assert!(!config.services.is_empty() || old.services.is_empty());
    let there = |old: &&crate::config::ServiceConfig| {
        config
            .services
            .iter()
            .any(|service| service.name == old.name)
    };
    let (count, there) = (
        old.services.len(),
        old.services.iter().filter(there).count(),
    );
    prop_assert!(
        count - there < 2 || 2 * there >= count,
        "{} of {}",
        there,
        count
    );
    for service in &config.services {
        let before = old.services.iter().find(|old| old.name == service.name);
        let had_some = before.is_some_and(|old| !old.backends.is_empty());
        prop_assert!(
            !had_some || !service.backends.is_empty(),
            "{}",
            service.name
        );
    }
    Ok(())
}

#[test]
fn a_file_cut_short_at_any_byte_never_empties_a_service() {
    for text in [FILE, &FILE.replace('\n', "\r\n")] {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let outcome = outcome(&text[..end]);
            no_service_is_emptied(&running(), &outcome).unwrap();
            // Of the first service not even one backend is ever lost.
            if let Outcome::Applied { config, .. } = outcome {
                assert_eq!(config.services[0], running().services[0], "cut at {end}");
            }
        }
    }
}

prop_compose! {
    fn service()(
        name in "[a-z]{1,3}",
        tables: bool,
        backends in prop::collection::btree_set(1u8..=250, 0..4),
        weight in prop::option::of(1u32..2000),
    ) -> String {
        let mut text = format!("[[service]]\nname = \"{name}\"\n");
        let weight = |separator| match weight {
            Some(weight) => format!("{separator}weight = {weight}"),
            None => String::new(),
        };
        if tables {
            for ip in backends {
                let weight = weight("\n");
                text += &format!("[[service.backends]]\naddress = \"10.0.0.{ip}:80\"{weight}\n");
            }
        } else if !backends.is_empty() {
            text += "backends = [\n";
            for ip in backends {
                text += &format!("  {{ address = \"10.0.0.{ip}:80\"{} }},\n", weight(", "));
            }
            text += "]\n";
        }
        text
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_cut_of_any_file_empties_a_service(services in prop::collection::vec(service(), 0..5)) {
        let text = services.concat();
        // Two of a name are no configuration, and no case for this.
        let Ok(running) = parse(&text, "test") else { return Ok(()) };
        for end in 0..=text.len() {
            let outcome = reloaded(&running, &text[..end], "test", Allowed::Some);
            no_service_is_emptied(&running, &outcome)?;
        }
    }

    #[test]
    fn what_is_applied_is_then_in_force(
        from in prop::collection::vec(service(), 0..5),
        to in prop::collection::vec(service(), 0..5),
    ) {
        let (from, to) = (from.concat(), to.concat());
        let Ok(running) = parse(&from, "test") else { return Ok(()) };
        if let Outcome::Applied { config, restart, .. } = reloaded(&running, &to, "test", Allowed::Some) {
            prop_assert_eq!(&reloaded(&config, &to, "test", Allowed::Some), &Outcome::Unchanged { restart });
        }
    }
}
