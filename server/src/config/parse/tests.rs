use proptest::prelude::*;
use toml::de::DeValue;

use super::*;
use crate::config::{BackendConfig, ServiceConfig};
use crate::model::{DropCategory, DropShare, ServiceName, Weight};

/// The faults of a text, each as `line:column: key: message`.
fn faults(text: &str) -> Vec<String> {
    let errors = parse(text, "f").expect_err(text);
    let lines = errors.to_string();
    let lines = lines
        .lines()
        .map(|line| line.strip_prefix("f:").unwrap().to_owned());
    lines.collect()
}

/// The one fault of a text.
fn fault(text: &str) -> String {
    let mut faults = faults(text);
    assert_eq!(faults.len(), 1, "{text}\n{faults:#?}");
    faults.remove(0)
}

/// The one fault of a service with this further line, from its key on.
fn fault_in_service(line: &str) -> String {
    let text = format!("[[service]]\nname = \"a\"\n{line}");
    let fault = fault(&text);
    let at = fault.find("service[0]").expect(&fault);
    fault[at..].to_owned()
}

fn example() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/lookaside.toml");
    std::fs::read_to_string(path).unwrap()
}

/// The example with everything on that it shows switched off.
fn example_in_full() -> String {
    let mut text = String::new();
    for line in example().lines() {
        let off = line.strip_prefix('#').filter(|rest| !rest.starts_with('#'));
        text.push_str(off.unwrap_or(line));
        text.push('\n');
    }
    text
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = parse("", "a.toml").unwrap();
    assert_eq!(config.balancer, BalancerConfig::default());
    assert_eq!(config.admin, AdminConfig::default());
    assert_eq!(config.dns, None);
    assert_eq!(config.services, []);
}

#[test]
fn every_key_is_read() {
    let config = parse(&example_in_full(), "example").unwrap();
    let addr = |text: &str| text.parse().unwrap();
    assert_eq!(
        config.balancer,
        BalancerConfig {
            listen: addr("0.0.0.0:9000"),
            advertise: vec![addr("10.0.0.5:9000"), addr("10.0.0.6:9000")],
            report_interval: Duration::from_secs(5),
            shutdown: Duration::from_secs(10),
            tls: Some(TlsConfig {
                cert: "/etc/lookaside/server.pem".into(),
                key: "/etc/lookaside/server.key".into(),
                client_ca: Some("/etc/lookaside/clients.pem".into()),
            }),
        }
    );
    assert_eq!(
        config.dns,
        Some(DnsConfig {
            listen: addr("0.0.0.0:9053"),
            ttl: Duration::from_secs(5),
            target: Some("lb.example.com".to_owned()),
            service_config: true,
        })
    );
    let name = |text| ServiceName::parse(text).unwrap();
    let backend = |address: &str| BackendConfig {
        address: address.parse().unwrap(),
        weight: None,
        zone: None,
        drain: None,
    };
    let weight = |weight| Some(Weight::new(weight).unwrap());
    assert_eq!(
        config.services,
        [
            ServiceConfig {
                name: name("greeter.example.com"),
                aliases: vec![name("greeter")],
                drops: vec![
                    DropShare::new(DropCategory::new("maintenance").unwrap(), 0.05).unwrap()
                ],
                fallback_port: Some(50051),
                backends: vec![
                    BackendConfig {
                        weight: weight(3.0),
                        zone: Some("a".into()),
                        ..backend("10.0.1.1:50051")
                    },
                    backend("10.0.1.2:50051"),
                    BackendConfig {
                        drain: Some(true),
                        ..backend("10.0.1.3:50051")
                    },
                ],
            },
            ServiceConfig {
                name: name("teller.example.com"),
                aliases: vec![],
                drops: vec![],
                fallback_port: None,
                backends: vec![
                    BackendConfig {
                        weight: weight(2.5),
                        ..backend("10.0.2.1:50061")
                    },
                    backend("[2001:db8::2:2]:50061"),
                ],
            },
        ]
    );
}

#[test]
fn the_example_shows_the_defaults() {
    let config = parse(&example(), "example").unwrap();
    let balancer = BalancerConfig {
        advertise: vec![],
        ..config.balancer
    };
    assert_eq!(balancer, BalancerConfig::default());
    assert_eq!(config.admin, AdminConfig::default());
    let dns = DnsConfig {
        target: None,
        ..config.dns.unwrap()
    };
    assert_eq!(dns, DnsConfig::default());
}

/// Where a key can be put into each table of a text, and the table's path. The
/// keys of `drop` are the operator's: none is unknown there.
fn tables(
    value: &DeValue<'_>,
    at: usize,
    text: &str,
    path: &str,
    found: &mut Vec<(usize, String)>,
) {
    match value {
        DeValue::Table(table) if !path.ends_with(".drop") => {
            let inline = text[at..].starts_with('{');
            let header = text[at..].find('\n').map_or(text.len(), |end| at + end + 1);
            match (path, inline) {
                ("", _) => found.push((0, String::new())),
                (_, true) => found.push((at + 1, path.to_owned())),
                (_, false) => found.push((header, path.to_owned())),
            }
            for (key, value) in table {
                let path = format!("{path}.{}", key.get_ref());
                tables(value.get_ref(), value.span().start, text, &path, found);
            }
        }
        DeValue::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let path = format!("{path}[{i}]");
                tables(item.get_ref(), item.span().start, text, &path, found);
            }
        }
        _ => {}
    }
}

#[test]
fn a_stray_key_is_refused_in_every_table_and_the_example_shows_all_others() {
    let text = example_in_full();
    let document = DeTable::parse(&text).unwrap();
    let root = DeValue::Table(document.into_inner());
    let mut found = Vec::new();
    tables(&root, 0, &text, "", &mut found);
    assert_eq!(found.len(), 12, "{found:?}");
    for (at, path) in found {
        let (before, after) = text.split_at(at);
        let stray = if before.ends_with('{') {
            "stray = 1,"
        } else {
            "stray = 1\n"
        };
        let fault = fault(&format!("{before}{stray}{after}"));
        let key = format!("{path}.stray").trim_start_matches('.').to_owned();
        let wanted = format!(": {key}: unknown key `stray`; known here: ");
        assert!(fault.contains(&wanted), "{fault}");

        let known = fault.split_once("known here: ").unwrap().1;
        for key in known.split('`').skip(1).step_by(2) {
            let shown = [format!("{key} = "), format!("[{key}]"), format!(".{key}]")];
            assert!(shown.iter().any(|shown| text.contains(shown)), "{key}");
        }
    }
}

#[test]
fn faults_come_all_at_once_and_in_the_order_of_the_file() {
    let text = r#"
[[service]]
name = "a"
drop = { x = 2 }
backends = [{ address = "h:1" }, { weight = "1" }, 5]
[balancer]
lisen = "0.0.0.0:9000"
report_interval = 5
"#;
    assert_eq!(
        faults(text),
        [
            "4:14: service[0].drop.x: drop share 2 is out of range; write a number above 0 and at \
             most 1 (0.05 is 5 % of all calls)",
            "5:25: service[0].backends[0].address: `h:1` is no address; write ip:port, as \
             10.0.1.1:50051 or [2001:db8::1]:50051 (a host name needs a discovery source)",
            "5:34: service[0].backends[1]: `address` is missing; write address = \"10.0.1.1:50051\"",
            "5:45: service[0].backends[1].weight: this is a string, but a number belongs here, as 3",
            "5:52: service[0].backends[2]: this is a whole number, but a table belongs here, as \
             { address = \"10.0.1.1:50051\", weight = 3 }",
            "7:1: balancer.lisen: unknown key `lisen`; did you mean `listen`? known here: \
             `advertise`, `listen`, `report_interval`, `shutdown` and `tls`",
            "8:19: balancer.report_interval: this is a whole number, but a duration with its \
             unit, as a string, belongs here, as \"5s\"",
        ]
    );
}

#[test]
fn what_is_no_toml_is_said_where_it_ends_to_be() {
    assert_eq!(
        faults("a = 1\n[admin]\nlisten = 127.0.0.1:80\nlisten = \"x\nb = 2\n"),
        [
            "1:1: a: unknown key `a`; known here: `admin`, `balancer`, `dns` and `service`",
            "3:15: invalid float; if it is meant as text, write it in quotes",
            "4:1: duplicate key `listen`; a table has each key once",
            "4:12: invalid basic string, expected `\"`",
        ]
    );
    assert_eq!(fault("[a"), "1:3: unclosed table, expected `]`");
}

#[test]
fn wrong_types_are_refused_with_an_example() {
    for (text, wanted) in [
        ("balancer = 1", "[balancer]"),
        ("[balancer]\nlisten = 9000", "\"0.0.0.0:9000\""),
        (
            "[balancer]\nadvertise = \"10.0.0.5:9000\"",
            "[\"10.0.0.5:9000\"]",
        ),
        ("[balancer]\ntls = true", "[balancer.tls]"),
        ("[balancer]\nshutdown = 10", "\"10s\""),
        ("[admin]\nlisten = true", "\"0.0.0.0:9000\""),
        ("dns = true", "[dns]"),
        ("service = 1", "[[service]]"),
        ("[service]\nname = \"a\"", "[[service]]"),
        ("service = [1]", "[[service]]"),
        ("[[service]]\nname = 1", "\"greeter.example.com\""),
        (
            "[[service]]\nname = \"a\"\naliases = \"b\"",
            "[\"greeter\"]",
        ),
        ("[[service]]\nname = \"a\"\npolicy = 1", "\"static\""),
        (
            "[[service]]\nname = \"a\"\ndrop = 0.5",
            "{ maintenance = 0.05 }",
        ),
        ("[[service]]\nname = \"a\"\ndrop.b = \"5%\"", "0.05"),
        ("[[service]]\nname = \"a\"\nfallback_port = \"80\"", "50051"),
        ("[[service]]\nname = \"a\"\nfallback_port = 80.5", "50051"),
        (
            "[[service]]\nname = \"a\"\nbackends = \"1.2.3.4:5\"",
            "[{ address = \"10.0.1.1:50051\", weight = 3 }]",
        ),
        (
            "[[service]]\nname = \"a\"\nbackends = [\"1.2.3.4:5\"]",
            "{ address = \"10.0.1.1:50051\", weight = 3 }",
        ),
        (
            "[[service]]\nname = \"a\"\nbackends = [{ address = 1 }]",
            "\"10.0.1.1:50051\"",
        ),
        (
            "[[service]]\nname = \"a\"\nbackends = [{ address = \"1.2.3.4:5\", drain = \"yes\" }]",
            "true",
        ),
        (
            "[[service]]\nname = \"a\"\nbackends = [{ address = \"1.2.3.4:5\", zone = 1 }]",
            "\"eu-west-1a\"",
        ),
        (
            "[[service]]\nname = \"a\"\nbackends = [{ address = \"1.2.3.4:5\", weight = 2026-01-01 }]",
            "3",
        ),
    ] {
        let fault = fault(text);
        assert!(
            fault.ends_with(&format!(" belongs here, as {wanted}")),
            "{fault}"
        );
    }
}

#[test]
fn what_comes_later_is_refused_as_such() {
    for line in [
        "health = { kind = \"grpc\", interval = \"1s\", timeout = \"500ms\" }",
        "subset = 100",
        "register = { token_file = \"t\" }",
        "shadow = \"feedback\"",
        "cidrs = []",
        "hold = \"30s\"",
        "[[service.match]]\nlabels = { version = \"v2\" }\nweight = 0.5",
        "[[service.discovery]]\nkind = \"dns\"",
        "policy = \"weighted_round_robin\"",
        "policy = \"feedback\"",
        "backends = [{ address = \"1.2.3.4:5\", labels = {} }]",
    ] {
        let fault = fault_in_service(line);
        assert!(
            fault.contains("not yet supported by this version"),
            "{fault}"
        );
    }
    let fault = fault_in_service("policy = \"random\"");
    assert_eq!(
        fault,
        "service[0].policy: there is no policy `random`; there is `static`, and `feedback` and \
         `weighted_round_robin` are not yet supported"
    );
}

#[test]
fn a_name_means_one_service() {
    let service = |name: &str, aliases: &str| {
        format!("[[service]]\nname = \"{name}\"\naliases = [{aliases}]\n")
    };
    for (text, wanted) in [
        (
            service("a", "") + &service("A.", ""),
            "service[1].name: `a` is already service[0].name;",
        ),
        (
            service("a", "\"b\"") + &service("b", ""),
            "service[1].name: `b` is already service[0].aliases[0];",
        ),
        (
            service("b", "") + &service("a", "\"B\""),
            "service[1].aliases[0]: `b` is already service[0].name;",
        ),
        (
            service("a", "\"b\"") + &service("c", "\"b.\""),
            "service[1].aliases[0]: `b` is already service[0].aliases[0];",
        ),
        (
            service("a", "\"a\""),
            "service[0].aliases[0]: `a` is already service[0].name;",
        ),
        (
            service("a", "\"b\", \"b\""),
            "service[0].aliases[1]: `b` is already service[0].aliases[0];",
        ),
    ] {
        let fault = fault(&text);
        assert!(fault.contains(wanted), "{fault}");
    }
    // With a port, and without: two services.
    parse(&(service("a", "") + &service("a:443", "")), "f").unwrap();
}

#[test]
fn names_are_neither_empty_nor_long_nor_strange() {
    let long = "a".repeat(ServiceName::MAX_LEN + 1);
    for name in ["", ".", "a b", "ü", long.as_str()] {
        let fault = fault(&format!("[[service]]\nname = \"{name}\"\n"));
        assert!(
            fault.starts_with("2:8: service[0].name: the service name "),
            "{fault}"
        );
        let fault = fault_in_service(&format!("aliases = [\"{name}\"]"));
        assert!(
            fault.starts_with("service[0].aliases[0]: the service name "),
            "{fault}"
        );
    }
}

#[test]
fn an_address_is_ip_and_port_and_once_in_a_service() {
    for address in [
        "host:80",
        "10.0.0.1",
        "10.0.0.1:0",
        "10.0.0.1:70000",
        "0.0.0.0:80",
        "",
        ":80",
    ] {
        let fault = fault_in_service(&format!("backends = [{{ address = \"{address}\" }}]"));
        assert!(
            fault.starts_with("service[0].backends[0].address: "),
            "{fault}"
        );
    }
    let fault = fault_in_service(
        "backends = [{ address = \"10.0.0.1:80\" }, { address = \"[::ffff:10.0.0.1]:80\" }]",
    );
    assert_eq!(
        fault,
        "service[0].backends[1].address: 10.0.0.1:80 is already the address of \
         service[0].backends[0]"
    );
    let twice = "[[service]]\nname = \"a\"\nbackends = [{ address = \"10.0.0.1:80\" }]\n";
    let twice = format!("{twice}{}", twice.replace("\"a\"", "\"b\""));
    parse(&twice, "f").unwrap();
}

#[test]
fn a_weight_is_a_number_from_zero_to_a_million() {
    let line =
        |weight: &str| format!("backends = [{{ address = \"10.0.0.1:80\", weight = {weight} }}]");
    for weight in [
        "-1",
        "-0.5",
        "nan",
        "-nan",
        "inf",
        "-inf",
        "1000000.5",
        "1e7",
        "1e400",
        "99999999999999999999999999",
        "0xffffffffffffffffff",
    ] {
        let fault = fault_in_service(&line(weight));
        assert!(
            fault.starts_with("service[0].backends[0].weight: weight "),
            "{fault}"
        );
        assert!(fault.contains("is out of range"), "{fault}");
    }
    for (weight, value) in [
        ("0", 0.0),
        ("-0", 0.0),
        ("-0.0", 0.0),
        ("1", 1.0),
        ("1_000", 1000.0),
        ("0x10", 16.0),
        ("1e-9", 1e-9),
        ("2.5", 2.5),
        ("1e6", 1e6),
        ("+3", 3.0),
    ] {
        let config = parse(&format!("[[service]]\nname = \"a\"\n{}", line(weight)), "f").unwrap();
        let read = config.services[0].backends[0].weight.unwrap();
        assert_eq!(read.value(), value, "{weight}");
    }
}

#[test]
fn drops_are_shares_that_sum_to_one_at_most() {
    let long = "x".repeat(41);
    for (drop, wanted) in [
        ("a = 0", "drop.a: drop share 0 is out of range"),
        ("a = -0.1", "drop.a: drop share -0.1 is out of range"),
        ("a = 1.1", "drop.a: drop share 1.1 is out of range"),
        ("a = nan", "drop.a: drop share NaN is out of range"),
        ("a = inf", "drop.a: drop share inf is out of range"),
        ("a = 0.6, b = 0.6", "drop: the shares sum to 1.2;"),
        ("\"\" = 0.1", "drop.\"\": drop category `` is not "),
        ("\"a~b\" = 0.1", "drop.\"a~b\": drop category `a~b` is not "),
        ("\"ü\" = 0.1", "drop.\"ü\": drop category `ü` is not "),
        (
            &format!("{long} = 0.1"),
            &format!("drop.{long}: drop category "),
        ),
    ] {
        let fault = fault_in_service(&format!("drop = {{ {drop} }}"));
        assert!(
            fault.starts_with(&format!("service[0].{wanted}")),
            "{fault}"
        );
    }
    // In the order of the file, and what is 1 but for rounding is 1.
    let text = "[[service]]\nname = \"a\"\ndrop = { z = 0.7, b = 0.2, a = 0.1 }";
    let drops = &parse(text, "f").unwrap().services[0].drops;
    let categories: Vec<_> = drops.iter().map(|drop| drop.category.as_str()).collect();
    assert_eq!(categories, ["z", "b", "a"]);
    parse("[[service]]\nname = \"a\"\n[service.drop]\nall = 1", "f").unwrap();
}

#[test]
fn ports_zones_durations_and_paths_have_their_ranges() {
    for (line, wanted) in [
        (
            "fallback_port = 0",
            "fallback_port: 0 is no port; write a number from 1 to 65535",
        ),
        ("fallback_port = 70000", "fallback_port: 70000 is no port;"),
        ("fallback_port = -1", "fallback_port: -1 is no port;"),
        (
            "backends = [{ address = \"1.2.3.4:5\", zone = \"\" }]",
            "backends[0].zone: `` is no zone;",
        ),
    ] {
        let fault = fault_in_service(line);
        assert!(
            fault.starts_with(&format!("service[0].{wanted}")),
            "{fault}"
        );
    }
    for (line, wanted) in [
        (
            "report_interval = \"999ms\"",
            "report_interval: `999ms` is out of range; write 1s to 1h, as \"5s\"",
        ),
        (
            "report_interval = \"2h\"",
            "report_interval: `2h` is out of range;",
        ),
        (
            "report_interval = \"5\"",
            "report_interval: `5` is no duration;",
        ),
        (
            "report_interval = \"-5s\"",
            "report_interval: `-5s` is no duration;",
        ),
        (
            "report_interval = \"1500us\"",
            "report_interval: `1500us` is out of range;",
        ),
        (
            "report_interval = \"1s 1us\"",
            "report_interval: `1s 1us` is finer than can be said; write whole milliseconds",
        ),
        (
            "shutdown = \"99999999999999999999s\"",
            "shutdown: `99999999999999999999s` is no duration;",
        ),
        (
            "shutdown = \"1day\"",
            "shutdown: `1day` is out of range; write 0s to 1h",
        ),
        (
            "tls = { cert = \"\", key = \"k\" }",
            "tls.cert: this names no file;",
        ),
        ("tls = { cert = \"c\" }", "tls: `key` is missing;"),
        ("tls = { key = \"k\" }", "tls: `cert` is missing;"),
    ] {
        let fault = fault(&format!("[balancer]\n{line}"));
        assert!(fault.contains(&format!(" balancer.{wanted}")), "{fault}");
    }
    for (line, wanted) in [
        (
            "ttl = \"1500ms\"",
            "dns.ttl: `1500ms` is finer than can be said; write whole seconds",
        ),
        (
            "ttl = \"2days\"",
            "dns.ttl: `2days` is out of range; write 0s to 1day",
        ),
        (
            "target = \"lb_1.example.com\"",
            "dns.target: `lb_1.example.com` is no host name;",
        ),
        ("target = \"\"", "dns.target: `` is no host name;"),
        (
            "target = \"10.0.0.1\"",
            "dns.target: `10.0.0.1` is no host name;",
        ),
        ("target = \"a..b\"", "dns.target: `a..b` is no host name;"),
        ("target = \"-a.b\"", "dns.target: `-a.b` is no host name;"),
    ] {
        let fault = fault(&format!("balancer.listen = \"10.0.0.1:1\"\n[dns]\n{line}"));
        assert!(fault.contains(&format!(" {wanted}")), "{fault}");
    }
    let text = "balancer.listen = \"10.0.0.1:1\"\n[dns]\ntarget = \"LB.Example.com.\"";
    let dns = parse(text, "f").unwrap().dns.unwrap();
    assert_eq!(dns.target.as_deref(), Some("lb.example.com"));
}

#[test]
fn dns_must_know_what_to_answer() {
    let wanted = "the balancer listens on every address, so DNS cannot know which to answer;";
    for text in [
        "[dns]",
        "[dns]\n[balancer]\nadvertise = []",
        "[dns]\n[balancer]\nlisten = \"[::]:9000\"",
    ] {
        assert!(fault(text).contains(wanted), "{}", fault(text));
    }
    for (advertise, wanted) in [
        ("0.0.0.0:9000", "0.0.0.0 names no host;"),
        ("10.0.0.1:0", "port 0 cannot be called;"),
        ("lb:9000", "`lb:9000` is no address;"),
    ] {
        let fault = fault(&format!(
            "[dns]\n[balancer]\nadvertise = [\"10.0.0.9:1\", \"{advertise}\"]"
        ));
        assert!(
            fault.contains(&format!("balancer.advertise[1]: {wanted}")),
            "{fault}"
        );
    }
    let advertise = |text| parse(text, "f").unwrap().balancer.advertise;
    assert_eq!(
        advertise("balancer.listen = \"10.0.0.1:1\"\n[dns]"),
        ["10.0.0.1:1".parse().unwrap()]
    );
    assert_eq!(advertise("balancer.listen = \"127.0.0.1:0\"\n[dns]"), []);
    assert_eq!(advertise(""), []);
}

#[test]
fn a_service_is_not_called_as_dns_calls_the_balancer() {
    let dns = "balancer.listen = \"10.0.0.1:1\"\n[dns]\n";
    let service = |name: &str| format!("[[service]]\nname = \"{name}\"\n");
    let text = format!(
        "{dns}target = \"greeter.test\"\n{}",
        service("greeter.test:80")
    );
    assert!(fault(&text).contains("service[0].name: `greeter.test:80` is also dns.target"));
    let text = format!("{dns}{}{}", service("lb2.greeter"), service("greeter"));
    assert!(fault(&text).contains("service[0].name: `lb2.greeter` is what DNS calls"));
    let text = format!("{dns}{}{}", service("lbs.greeter"), service("greeter"));
    parse(&text, "f").unwrap();
}

#[test]
fn no_two_listeners_share_an_address() {
    let file = |balancer: &str, admin: &str, dns: &str| {
        format!(
            "[balancer]\nlisten = \"{balancer}\"\nadvertise = [\"10.0.0.1:1\"]\n\
             [admin]\nlisten = \"{admin}\"\n[dns]\nlisten = \"{dns}\"\n"
        )
    };
    for text in [
        file("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:2"),
        file("0.0.0.0:1", "127.0.0.1:1", "127.0.0.1:2"),
        file("127.0.0.1:1", "127.0.0.1:2", "0.0.0.0:2"),
        file("[::]:1", "127.0.0.1:2", "127.0.0.1:1"),
        file("[::]:1", "0.0.0.0:1", "127.0.0.1:2"),
        file("[::ffff:127.0.0.1]:1", "127.0.0.1:1", "127.0.0.1:2"),
        "balancer.listen = \"127.0.0.1:9001\"".to_owned(),
    ] {
        assert!(fault(&text).contains(" is taken by "), "{}", fault(&text));
    }
    for text in [
        file("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"),
        file("127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"),
        file("0.0.0.0:1", "[::1]:1", "127.0.0.1:2"),
    ] {
        parse(&text, "f").unwrap();
    }
}

#[test]
fn what_a_fault_quotes_cannot_write_on_the_terminal() {
    let fault = fault("[[service]]\nname = \"a\"\npolicy = \"\\u001b[2J\\n\"");
    assert!(fault.contains("`\\u{1b}[2J\\n`"), "{fault}");
}

#[test]
fn endless_faults_are_counted_and_not_all_told() {
    let faults = faults(&"[[service]]\n".repeat(1000));
    assert_eq!(faults.len(), 101);
    assert!(
        faults[100].ends_with("there are 900 more faults behind this one"),
        "{}",
        faults[100]
    );
}

/// Pieces of configurations, right and wrong, in any order.
fn soup() -> impl Strategy<Value = String> {
    let example = example_in_full();
    let mut pieces: Vec<String> = example
        .lines()
        .filter(|line| !line.starts_with("##"))
        .map(|line| format!("{line}\n"))
        .collect();
    pieces.extend(
        [
            "=",
            "{",
            "}",
            "[",
            "]",
            "\"",
            "'''",
            "nan",
            "\\",
            "\0",
            "a.b = 1\n",
            "[[a.b]]\n",
            "ü",
        ]
        .map(str::to_owned),
    );
    prop::collection::vec(prop::sample::select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics_and_every_fault_has_a_place(text in prop_oneof![soup(), any::<String>()]) {
        if let Err(errors) = parse(&text, "f") {
            prop_assert!(!errors.errors.is_empty());
            for error in errors.errors {
                prop_assert!(error.line >= 1 && error.column >= 1);
                prop_assert!(error.line <= text.split('\n').count());
                prop_assert!(!error.message.is_empty());
            }
        }
    }
}
