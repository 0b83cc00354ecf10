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
    for line in ["cidrs = []", "register = { cidrs = [] }"] {
        let fault = fault_in_service(line);
        assert!(
            fault.contains("cidrs: no backend has an address of no network; write cidrs = ["),
            "{fault}"
        );
    }
    let many: String = (0..65)
        .map(|i| format!("[[zone]]\nname = \"{i}\"\ncidrs = [\"10.{i}.0.0/16\"]\n"))
        .collect();
    assert!(self::fault(&many).contains("there are 65 zones"));
}

#[test]
fn addresses_of_nobody_and_networks_without_each_other_are_refused() {
    for (lines, wanted) in [
        (
            "backends = [{ address = \"224.0.0.1:80\" }]",
            "multicast or broadcast",
        ),
        (
            "backends = [{ address = \"[ff02::1]:80\" }]",
            "multicast or broadcast",
        ),
        (
            "backends = [{ address = \"255.255.255.255:80\" }]",
            "multicast or broadcast",
        ),
        (
            "cidrs = [\"10.0.0.0/8\"]\nregister = { cidrs = [\"192.168.0.0/16\"] }",
            "no backend could register",
        ),
        (
            "health = { kind = \"grpc\", authority = \"a:99999\" }",
            "not a port",
        ),
        (
            "health = { kind = \"grpc\", authority = \"a..b\" }",
            "empty label",
        ),
        (
            "load = { kind = \"orca\", authority = \"dns:///a\" }",
            "its name is `a`",
        ),
        ("aliases = [\"dns:///a\"]", "its name is `a`"),
    ] {
        let fault = fault_in_service(lines);
        assert!(fault.contains(wanted), "{lines}: {fault}");
    }
    let narrower =
        "cidrs = [\"10.0.0.0/8\"]\nregister = { cidrs = [\"10.1.0.0/16\", \"192.168.0.0/16\"] }";
    parse(&format!("[[service]]\nname = \"a\"\n{narrower}\n"), "f").unwrap();
    for listen in ["balancer.listen", "admin.listen", "dns.listen"] {
        let text = format!("{listen} = \"224.0.0.1:80\"\nbalancer.advertise = [\"10.0.0.1:1\"]\n");
        let errors = parse(&text, "f").unwrap_err().to_string();
        assert!(errors.contains("multicast or broadcast"), "{errors}");
    }
}
