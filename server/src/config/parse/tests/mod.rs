//! What a text means, and what is said of one that means nothing.

mod meaning;
mod ranges;
mod reporting;
mod tls;

use proptest::prelude::*;
use toml::de::DeValue;

use super::*;
use crate::config::{
    BackendConfig, HealthConfig, HealthKind, LimitsConfig, LoadConfig, LoadKind, PrometheusConfig,
    RegisterConfig, ServiceConfig, TlsConfig,
};
use lookaside_core::model::{
    BackendTls, DialRules, DropCategory, DropShare, LabelMatch, Labels, OverloadDrops, ServiceName,
    TlsIdentity, Weight, ZoneTable,
};
use lookaside_core::weights::{PolicyChoice, ReportSettings, WeightSettings};

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
    assert_eq!(config.limits, LimitsConfig::default());
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
            state: Some("/var/lib/lookaside/state".into()),
            tls: Some(TlsConfig {
                cert: "/etc/lookaside/server.pem".into(),
                key: "/etc/lookaside/server.key".into(),
                client_ca: Some("/etc/lookaside/clients.pem".into()),
                client_crl: Some("/etc/lookaside/clients.crl".into()),
            }),
        }
    );
    assert_eq!(
        config.limits,
        LimitsConfig {
            connections: Some(10_000),
            connections_per_address: Some(7_500),
            streams_per_connection: Some(100),
            streams: Some(200_000),
            streams_per_address: Some(150_000),
            other_streams: Some(10_000),
            other_streams_per_address: Some(1_000),
            admin_connections: Some(64),
            handshake_timeout: Some(Duration::from_secs(10)),
            initial_request_timeout: Some(Duration::from_secs(5)),
            keepalive_interval: Some(Duration::from_secs(30)),
            keepalive_timeout: Some(Duration::from_secs(20)),
            stall_timeout: Some(Duration::from_secs(60)),
        }
    );
    assert_eq!(
        config.dns,
        Some(DnsConfig {
            listen: addr("0.0.0.0:9053"),
            ttl: Duration::from_secs(5),
            target: Some("lb.example.com".to_owned()),
            service_config: true,
            responses_per_second: 200,
            tcp_connections: 1024,
        })
    );
    let identity = TlsIdentity {
        cert: "/etc/lookaside/balancer.pem".into(),
        key: "/etc/lookaside/balancer.key".into(),
    };
    let all = Arc::new(BackendTls {
        ca: Some("/etc/lookaside/backends.pem".into()),
        identity: Some(identity),
        server_name: Some("greeter.example.com".to_owned()),
    });
    let greeter = Arc::new(BackendTls {
        ca: Some("/etc/lookaside/greeter.pem".into()),
        server_name: Some("spiffe://example.org/greeter".to_owned()),
        ..(*all).clone()
    });
    assert_eq!(config.backend_tls.as_ref(), Some(&all));
    let networks = ["10.1.0.0/16", "2001:db8:1::/48"].map(|cidr| cidr.parse().unwrap());
    let zones = ZoneTable::new(vec![("a".into(), networks.to_vec())]);
    assert_eq!(*config.zones, zones);
    let name = |text| ServiceName::parse(text).unwrap();
    let backend = |address: &str| BackendConfig {
        address: address.parse().unwrap(),
        weight: None,
        zone: None,
        drain: None,
        labels: Labels::default(),
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
                overload: Some(OverloadDrops::new(0.9, 0.5).unwrap()),
                fallback_port: Some(50051),
                matches: vec![LabelMatch {
                    labels: Labels::new([("version", "v2")]).unwrap(),
                    weight: weight(0.5),
                    zone: Some("b".into()),
                    drain: Some(false),
                }],
                dial: DialRules::new(vec!["10.0.0.0/8".parse().unwrap()]),
                register: Some(RegisterConfig {
                    token_file: Some("/etc/lookaside/tokens".into()),
                    client_names: vec!["greeter.example.com".to_owned()],
                    cidrs: vec!["10.0.1.0/24".parse().unwrap()],
                    any_address: true,
                }),
                tls: Some(Arc::clone(&greeter)),
                health: Some(HealthConfig {
                    kind: HealthKind::Grpc {
                        service: "helloworld.Greeter".to_owned(),
                        authority: Some("greeter.example.com".to_owned()),
                        tls: Some(Arc::clone(&greeter)),
                    },
                    interval: Duration::from_secs(1),
                    timeout: Duration::from_millis(500),
                    port: Some(50052),
                    unhealthy_threshold: 3,
                    healthy_threshold: 1,
                }),
                load: vec![LoadConfig {
                    kind: LoadKind::Orca,
                    interval: Duration::from_secs(5),
                    port: Some(50052),
                    authority: Some("greeter.example.com".to_owned()),
                    tls: Some(greeter),
                }],
                weights: WeightSettings {
                    policy: PolicyChoice::STATIC,
                    shadow: Some(PolicyChoice::FEEDBACK),
                    blend: 1.0,
                    slow_start: Some(Duration::ZERO),
                    ejection: Some(false),
                    reports: ReportSettings {
                        load_window: Some(Duration::ZERO),
                        ..ReportSettings::default()
                    },
                    metrics: vec!["utilization.gpu".to_owned()],
                },
                subset: Some(100),
                prefer_zone: false,
                backends: vec![
                    BackendConfig {
                        weight: weight(3.0),
                        zone: Some("a".into()),
                        ..backend("10.0.1.1:50051")
                    },
                    backend("10.0.1.2:50051"),
                    BackendConfig {
                        labels: Labels::new([("version", "v2")]).unwrap(),
                        drain: Some(true),
                        ..backend("10.0.1.3:50051")
                    },
                ],
            },
            ServiceConfig {
                name: name("teller.example.com"),
                aliases: vec![],
                drops: vec![],
                overload: None,
                fallback_port: None,
                matches: vec![],
                dial: DialRules::default(),
                register: None,
                tls: Some(all),
                health: None,
                load: vec![LoadConfig {
                    kind: LoadKind::Prometheus(PrometheusConfig {
                        path: "/metrics".to_owned(),
                        timeout: Duration::from_secs(1),
                        utilization: "worker_pool_busy".parse().unwrap(),
                        capacity: 64.0,
                        requests: Some("grpc_server_handled_total".parse().unwrap()),
                        errors: Some(
                            "grpc_server_handled_total{grpc_code=\"Internal\"}"
                                .parse()
                                .unwrap(),
                        ),
                    }),
                    interval: Duration::from_secs(5),
                    port: Some(9090),
                    authority: None,
                    tls: None,
                }],
                weights: WeightSettings::default(),
                subset: None,
                prefer_zone: false,
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
/// keys of `drop` and `labels` are the operator's: none is unknown there.
fn tables(
    value: &DeValue<'_>,
    at: usize,
    text: &str,
    path: &str,
    found: &mut Vec<(usize, String)>,
) {
    match value {
        DeValue::Table(table) if !path.ends_with(".drop") && !path.ends_with(".labels") => {
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
    assert_eq!(found.len(), 22, "{found:?}");
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
             10.0.1.1:50051 or [2001:db8::1]:50051 (host names are not looked up)",
            "5:34: service[0].backends[1]: `address` is missing; write address = \"10.0.1.1:50051\"",
            "5:45: service[0].backends[1].weight: this is a string, but a number belongs here, as 3",
            "5:52: service[0].backends[2]: this is a whole number, but a table belongs here, as \
             { address = \"10.0.1.1:50051\", weight = 3 }",
            "7:1: balancer.lisen: unknown key `lisen`; did you mean `listen`? known here: \
             `advertise`, `listen`, `report_interval`, `shutdown`, `state` and `tls`",
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
            "1:1: a: unknown key `a`; known here: `admin`, `backend_tls`, `balancer`, `dns`, `limits`, `service` and `zone`",
            "3:15: invalid float; if it is meant as text, write it in quotes",
            "4:1: duplicate key `listen`; a table has each key once",
            "4:12: invalid basic string, expected `\"`",
        ]
    );
    assert_eq!(fault("[a"), "1:3: unclosed table, expected `]`");
}

#[test]
fn a_file_that_ends_too_early_has_one_fault_where_it_ends() {
    let table = "unclosed inline table, expected `}`";
    let array = "unclosed array, expected `]`";
    for (text, wanted) in [
        ("a = [ { addr", format!("1:13: {table}")),
        ("a = [ { addr = \"10.0", format!("1:21: {table}")),
        ("a = [", format!("1:6: {array}")),
        ("a = [ { b = [", format!("1:14: {array}")),
    ] {
        assert_eq!(fault(text), wanted);
    }
}
