//! Ranges, listeners, and texts that are no configuration at all.

use super::*;

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
            "state = \"\"",
            "state: this names no file; write one in a folder",
        ),
        (
            "state = \"/var/lib/\"",
            "state: this names no file; write one in a folder",
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
fn overload_is_a_bound_that_can_be_met_and_leaves_some_calls() {
    for (overload, wanted) in [
        (
            "{ utilization = 0 }",
            "overload.utilization: utilization 0 is out of range; write a number above 0 and at most 1",
        ),
        (
            "{ utilization = 1.5 }",
            "overload.utilization: utilization 1.5 is",
        ),
        (
            "{ utilization = nan }",
            "overload.utilization: utilization NaN is",
        ),
        (
            "{ utilization = 0.9, max = 1 }",
            "overload.max: max 1 is out of range; write a number above 0 and below 1",
        ),
        ("{ utilization = 0.9, max = 0.0 }", "overload.max: max 0 is"),
        (
            "{ max = 0.5 }",
            "overload: `utilization` is missing; write utilization = 0.9",
        ),
        (
            "{ utilization = 0.9, most = 0.5 }",
            "overload.most: unknown key",
        ),
        (
            "0.9",
            "overload: this is a number, but a table belongs here, as { utilization = 0.9, max = 0.5 }",
        ),
    ] {
        let fault = fault_in_service(&format!("overload = {overload}"));
        assert!(
            fault.starts_with(&format!("service[0].{wanted}")),
            "{fault}"
        );
    }
    let both = "overload = { utilization = 0.9 }\ndrop = { overload = 0.1 }";
    let both = fault_in_service(both);
    assert!(both.contains("one of `drop` too; rename that"), "{both}");
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
