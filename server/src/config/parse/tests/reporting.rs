//! What is said of how backends are known: registration, health, load.

use super::*;

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
            ".client_names[0]: `*.a.test` is not a name",
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
            tls: None,
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
            ".authority: `a b` is not an authority;",
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
            ".authority: `a b` is not an authority;",
        ),
        ("1", ": this is a whole number, but a table belongs here,"),
        ("[]", ": nobody is asked for load by an empty array;"),
        (
            "[{ kind = \"orca\" }, { kind = \"load_report\" }]",
            "[1]: `capacity` is missing; write capacity = 100",
        ),
        (
            "[{ kind = \"orca\" }, { kind = \"orca\", interval = \"9s\" }]",
            "[1]: backends are asked for the same in the same place already;",
        ),
        (
            "[{ kind = \"prometheus\", utilization = \"a\" }, { kind = \"orca\" }]",
            "[1]: nobody is ever asked this way,",
        ),
    ] {
        let fault = fault_in_service(&format!("load = {load}"));
        let wanted = format!("service[0].load{wanted}");
        assert!(fault.starts_with(&wanted), "{fault}");
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
fn load_may_be_asked_for_in_several_ways_in_order() {
    let ways = "[{ kind = \"orca\" }, { kind = \"orca\", port = 1 }, \
                { kind = \"load_report\", capacity = 100, interval = \"9s\" }]";
    for text in [
        format!("[[service]]\nname = \"a.test\"\nload = {ways}"),
        "[[service]]\nname = \"a.test\"\n[[service.load]]\nkind = \"orca\"\n\
         [[service.load]]\nkind = \"orca\"\nport = 1\n[[service.load]]\n\
         kind = \"load_report\"\ncapacity = 100\ninterval = \"9s\""
            .to_owned(),
    ] {
        let config = parse(&text, "lookaside.toml").unwrap();
        let service = &config.services[0];
        let ways = service.load.iter().map(|way| (way.kind.as_str(), way.port));
        let ways: Vec<_> = ways.collect();
        let wanted = [("orca", None), ("orca", Some(1)), ("load_report", None)];
        assert_eq!(ways, wanted);
        let interval = service.report_interval(&config.balancer);
        assert_eq!(interval, Duration::from_secs(9));
    }
}
