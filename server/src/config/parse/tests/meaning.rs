//! Types, names, addresses and weights.

use super::*;

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
        ("[[service]]\nname = \"a\"\npolicy = 1", "\"feedback\""),
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
        "hold = \"30s\"",
        "[[service.discovery]]\nkind = \"dns\"",
        "backends = [{ address = \"1.2.3.4:5\", priority = 1 }]",
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
        "service[0].policy: there is no policy `random`; there are `feedback`, `static` and \
         `weighted_round_robin`"
    );
}

#[test]
fn who_may_register_is_said_by_tokens_names_or_addresses() {
    let read = |line: &str| {
        let tls = "balancer.tls = { cert = \"c\", key = \"k\", client_ca = \"ca\" }";
        let text = format!("{tls}\n[[service]]\nname = \"a\"\n{line}");
        parse(&text, "f").unwrap().services.remove(0).register
    };
    assert_eq!(read(""), None);
    let register = read("register = { cidrs = [\"10.0.0.0/8\"] }").unwrap();
    assert_eq!(register.cidrs, ["10.0.0.0/8".parse().unwrap()]);
    assert!(!register.any_address);
    let register =
        read("register = { token_file = \"t\", client_names = [\"a.test\"], any_address = true }");
    let register = register.unwrap();
    assert_eq!(register.token_file, Some("t".into()));
    assert_eq!(register.client_names, ["a.test"]);

    for (register, wanted) in [
        ("{}", ": it does not say who may register;"),
        ("{ any_address = true }", ": it does not say who"),
        (
            "{ cidrs = [\"0.0.0.0/0\"], any_address = true }",
            ": with any_address, whoever",
        ),
        (
            "{ cidrs = [\"10.0.0.1/8\"] }",
            ".cidrs[0]: `10.0.0.1/8` has bits",
        ),
        ("{ cidrs = [\"ten\"] }", ".cidrs[0]: `ten` is no network;"),
        ("{ token_file = \"\" }", ".token_file: an empty path"),
        (
            "{ client_names = [\"*.a.test\"] }",
            ".client_names[0]: `*.a.test` is no name",
        ),
        (
            "{ cidr = [], token_file = \"t\" }",
            ".cidr: unknown key `cidr`; did you mean `cidrs`?",
        ),
        ("true", ": this is true or false, but a table"),
    ] {
        let fault = fault_in_service(&format!("register = {register}"));
        let wanted = format!("service[0].register{wanted}");
        assert!(fault.starts_with(&wanted), "{fault}");
    }
}

#[test]
fn how_backends_are_weighed_is_said_in_range() {
    for (line, wanted) in [
        (
            "blend = 0",
            "blend: blend 0 is out of range; write a number above 0",
        ),
        ("blend = nan", "blend: blend NaN is out of range"),
        (
            "slow_start = \"2h\"",
            "slow_start: `2h` is out of range; write 0s to 1h",
        ),
        (
            "ejection = 1",
            "ejection: this is a whole number, but true or false",
        ),
        ("shadow = \"a58\"", "shadow: there is no policy `a58`"),
        (
            "policy = \"feedback\"\nshadow = \"feedback\"",
            "shadow: `feedback` is the policy already",
        ),
    ] {
        let fault = fault_in_service(line);
        assert!(
            fault.starts_with(&format!("service[0].{wanted}")),
            "{fault}"
        );
    }
}

#[test]
fn health_is_checked_by_grpc_or_tcp() {
    let read = |line: &str| {
        let text = format!("[[service]]\nname = \"a\"\n{line}");
        parse(&text, "f").unwrap().services.remove(0).health
    };
    assert_eq!(read(""), None);
    let grpc = read("health = { kind = \"grpc\", interval = \"200ms\" }").unwrap();
    assert_eq!(
        grpc.kind,
        HealthKind::Grpc {
            service: String::new(),
            authority: None,
        }
    );
    assert_eq!(grpc.timeout, Duration::from_millis(200));
    let tcp = read("health = { kind = \"tcp\" }").unwrap();
    assert_eq!(tcp.kind, HealthKind::Tcp);
    assert_eq!(tcp.timeout, Duration::from_millis(500));

    for (health, wanted) in [
        ("{}", ": `kind` is missing; write kind = \"grpc\""),
        (
            "{ kind = \"http\" }",
            ".kind: there is no kind of health check `http`; there are `grpc` and `tcp`",
        ),
        (
            "{ kind = \"grpc\", interval = \"10ms\" }",
            ".interval: `10ms` is out of range;",
        ),
        (
            "{ kind = \"grpc\", interval = \"1s\", timeout = \"2s\" }",
            ".timeout: the timeout (2s) is longer than the interval (1s);",
        ),
        (
            "{ kind = \"grpc\", unhealthy_threshold = 0 }",
            ".unhealthy_threshold: 0 is out of range; write a number from 1 to 100",
        ),
        (
            "{ kind = \"grpc\", healthy_threshold = 1.5 }",
            ".healthy_threshold: this is a number, but a whole number belongs here, as 1",
        ),
        (
            "{ kind = \"tcp\", service = \"a\" }",
            ".service: a tcp check only connects",
        ),
        (
            "{ kind = \"grpc\", authority = \"a b\" }",
            ".authority: `a b` is no authority;",
        ),
        (
            "{ kind = \"grpc\", timeOut = \"1s\" }",
            ".timeOut: unknown key `timeOut`; did you mean `timeout`?",
        ),
    ] {
        let fault = fault_in_service(&format!("health = {health}"));
        let wanted = format!("service[0].health{wanted}");
        assert!(fault.starts_with(&wanted), "{fault}");
    }
}

#[test]
fn load_is_asked_for_in_one_of_three_ways() {
    for (load, wanted) in [
        ("{}", ": `kind` is missing; write kind = \"orca\""),
        (
            "{ kind = \"lrs\" }",
            ".kind: there is no kind of load report `lrs`;",
        ),
        (
            "{ kind = \"orca\", capacity = 1 }",
            ".capacity: of no use for kind \"orca\", but for `load_report` and `prometheus`;",
        ),
        (
            "{ kind = \"load_report\" }",
            ": `capacity` is missing; write capacity = 100",
        ),
        (
            "{ kind = \"load_report\", capacity = 0 }",
            ".capacity: capacity 0 is out of range;",
        ),
        (
            "{ kind = \"load_report\", capacity = 1, path = \"/\" }",
            ".path: of no use for kind \"load_report\", but for `prometheus`;",
        ),
        (
            "{ kind = \"prometheus\" }",
            ": `utilization` is missing; write utilization = ",
        ),
        (
            "{ kind = \"prometheus\", utilization = \"rate(a)\" }",
            ".utilization: `rate(a)` selects nothing; write a metric's name",
        ),
        (
            "{ kind = \"prometheus\", utilization = \"a\", errors = \"b\" }",
            ".errors: errors are a share of requests;",
        ),
        (
            "{ kind = \"prometheus\", utilization = \"a\", path = \"metrics\" }",
            ".path: `metrics` is no path;",
        ),
        (
            "{ kind = \"orca\", interval = \"10ms\" }",
            ".interval: `10ms` is out of range;",
        ),
        ("{ kind = \"orca\", port = 0 }", ".port: 0 is no port;"),
        (
            "{ kind = \"orca\", authority = \"a b\" }",
            ".authority: `a b` is no authority;",
        ),
    ] {
        let fault = fault_in_service(&format!("load = {load}"));
        let wanted = format!("service[0].load{wanted}");
        assert!(fault.starts_with(&wanted), "{fault}");
    }
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
fn labels_and_matches_say_what_they_want() {
    for (line, wanted) in [
        (
            "match = [{ weight = 1 }]",
            "match[0]: `labels` is missing; write labels = { version = \"v2\" }",
        ),
        (
            "match = [{ labels = {}, weight = 1 }]",
            "match[0].labels: without labels it means no backend",
        ),
        (
            "[[service.match]]\nlabels = { version = \"v2\" }",
            "match[0]: it says nothing of the backends it means; write weight, zone or drain",
        ),
        (
            "match = [{ labels = { version = 2 }, drain = true }]",
            "match[0].labels.version: this is a whole number, but a string belongs here",
        ),
        (
            "match = [{ labels = { version = \"v2\" }, weight = -1 }]",
            "match[0].weight: ",
        ),
        (
            "backends = [{ address = \"1.2.3.4:5\", labels = { \"\" = \"v2\" } }]",
            "backends[0].labels: `` cannot be in a label; names have 1 to 63 bytes",
        ),
    ] {
        let fault = fault_in_service(line);
        assert!(
            fault.starts_with(&format!("service[0].{wanted}")),
            "{fault}"
        );
    }
}

#[test]
fn what_counts_as_load_is_a_metric_of_a_report() {
    for (line, wanted) in [
        (
            "load_metrics = \"utilization.gpu\"",
            "load_metrics: this is a string, but an array belongs here, as [\"utilization.gpu\"]",
        ),
        (
            "load_metrics = [\"gpu\"]",
            "load_metrics[0]: `gpu` is no metric of a report; write \"utilization.<name>\" or",
        ),
        (
            "load_metrics = [\"utilization.\"]",
            "load_metrics[0]: `utilization.` is no metric",
        ),
        (
            "load_metrics = [\"utilization.a\", \"utilization.a\"]",
            "load_metrics[1]: `utilization.a` is already in the list",
        ),
        (
            "load_window = \"1h\"",
            "load_window: `1h` is out of range; write 0s to 10m",
        ),
        (
            "error_penalty = -1",
            "error_penalty: error_penalty -1 is out of range; write 0 to 10",
        ),
        (
            "error_penalty = nan",
            "error_penalty: error_penalty NaN is out of range",
        ),
    ] {
        let fault = fault_in_service(line);
        assert!(
            fault.starts_with(&format!("service[0].{wanted}")),
            "{fault}"
        );
    }
}

#[test]
fn who_may_register_could_do_so() {
    let fault = fault_in_service("register = { client_names = [\"a.test\"] }");
    let wanted = "service[0].register: no backend shows a certificate to this balancer";
    assert!(fault.starts_with(wanted), "{fault}");
    let fault =
        fault_in_service("cidrs = [\"10.1.0.0/16\"]\nbackends = [{ address = \"10.2.0.1:80\" }]");
    let wanted = "service[0].backends[0].address: 10.2.0.1 is in none of the service's cidrs";
    assert!(fault.starts_with(wanted), "{fault}");
}

#[test]
fn a_subset_is_a_number_of_backends_and_not_one() {
    let read = |line: &str| {
        let text = format!("[[service]]\nname = \"a\"\n{line}");
        parse(&text, "f").unwrap().services.remove(0).subset
    };
    assert_eq!(read(""), None);
    assert_eq!(read("subset = 2"), Some(2));
    assert_eq!(read("subset = 2000"), Some(2000));
    for bad in ["1", "0", "-3", "2001", "20.5", "nan", "inf", "1e9"] {
        let fault = fault_in_service(&format!("subset = {bad}"));
        assert!(
            fault.contains("is no number of backends for a client; write a whole number from 2"),
            "{fault}"
        );
    }
    let fault = fault_in_service("subset = \"20\"");
    assert!(fault.ends_with("a number belongs here, as 100"), "{fault}");
}

#[test]
fn zones_say_where_clients_stand_and_each_network_once() {
    let config = parse(
        "[[zone]]\nname = \"a\"\ncidrs = [\"10.0.0.0/8\"]\n\
         [[zone]]\nname = \"b\"\ncidrs = [\"10.1.0.0/16\"]\n\
         [[service]]\nname = \"a\"\nprefer_zone = true",
        "f",
    );
    let config = config.unwrap();
    assert!(config.services[0].prefer_zone);
    assert_eq!(config.zones.find("10.1.2.3".parse().unwrap()), Some(1));

    let a = "[[zone]]\nname = \"a\"\ncidrs = [\"10.0.0.0/8\"]\n";
    for (more, wanted) in [
        (
            "[[zone]]\nname = \"b\"\ncidrs = [\"10.1.0.0/16\", \"10.0.0.0/8\"]",
            "6:25: zone[1].cidrs[1]: 10.0.0.0/8 is already zone[0].cidrs[0]; an address stands",
        ),
        (
            "[[zone]]\nname = \"a\"\ncidrs = [\"10.1.0.0/16\"]",
            "5:8: zone[1].name: `a` is already zone[0].name; write all networks",
        ),
        (
            "[[zone]]\nname = \"b\"\ncidrs = []",
            "zone[1].cidrs: a zone without networks has no clients",
        ),
        ("[[zone]]\nname = \"b\"", "zone[1]: "),
        (
            "[[zone]]\nname = \"\"\ncidrs = [\"::/0\"]",
            "zone[1].name: `` is no zone; write 1 to 63",
        ),
        (
            "[[zone]]\nname = \"b\"\ncidrs = [\"10.1.0.1/16\"]",
            "write 10.1.0.0/16",
        ),
    ] {
        let fault = fault(&format!("{a}{more}"));
        assert!(fault.contains(wanted), "{fault}");
    }
    let fault = fault_in_service("prefer_zone = true");
    assert!(
        fault.starts_with("service[0].prefer_zone: the file does not say where clients stand"),
        "{fault}"
    );
    let many: String = (0..65)
        .map(|i| format!("[[zone]]\nname = \"{i}\"\ncidrs = [\"10.{i}.0.0/16\"]\n"))
        .collect();
    assert!(self::fault(&many).contains("there are 65 zones"));
}
