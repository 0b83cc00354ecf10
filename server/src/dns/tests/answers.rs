//! What is answered, as a pure function.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::DNSClass;

use super::super::answer::{self, Answer, MAX_BACKENDS, View};
use super::super::settings::BadTarget;
use super::super::zone::ZoneMatch;
use super::*;

const GREETER: &[&str] = &["greeter.test", "hello.test"];

fn greeter() -> Zone {
    zone_of(&config(), &["10.9.0.1:9000", "10.9.0.2:9000"], &[GREETER])
}

pub(super) fn answer(query: &Query, view: View<'_>) -> Answer {
    answer::answer(query, view, || 7)
}

fn view<'a>(zone: &'a Zone, backends: &'a [IpAddr]) -> View<'a> {
    View {
        zone: Some(zone),
        backends: Some(backends),
        turn: 0,
    }
}

fn ask(zone: &Zone, name: &str, kind: RecordType) -> Answer {
    answer(&query(name, kind), view(zone, &[]))
}

pub(super) fn ips(count: u8) -> Vec<IpAddr> {
    let ip = |n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
    (1..=count).map(ip).collect()
}

#[track_caller]
fn assert_nodata(answer: &Answer, apex: &str) {
    assert_eq!(answer.code, ResponseCode::NoError);
    assert!(answer.authoritative);
    assert_eq!(data(&answer.answers), [""; 0]);
    assert_eq!(answer.authorities.len(), 1);
    assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    assert_eq!(answer.authorities[0].name.to_ascii(), apex);
}

#[track_caller]
fn assert_refused(answer: &Answer) {
    assert_eq!(answer.code, ResponseCode::Refused);
    assert!(!answer.authoritative);
    assert!(answer.answers.is_empty() && answer.authorities.is_empty());
}

#[test]
fn srv_leads_to_the_balancers() {
    let zone = greeter();
    let found = ask(&zone, "_grpclb._tcp.greeter.test.", RecordType::SRV);
    assert!(found.authoritative);
    assert_eq!(data(&found.answers), ["lb.greeter.test.:9000"]);
    assert_eq!(found.answers[0].ttl, 5);
    assert_eq!(data(&found.additionals), ["10.9.0.1", "10.9.0.2"]);
    let found = ask(&zone, "lb.greeter.test.", RecordType::A);
    assert_eq!(data(&found.answers), ["10.9.0.1", "10.9.0.2"]);
}

#[test]
fn an_alias_is_a_service_of_its_own_to_dns() {
    let zone = greeter();
    let found = ask(&zone, "_grpclb._tcp.hello.test.", RecordType::SRV);
    assert_eq!(data(&found.answers), ["lb.hello.test.:9000"]);
    let place = zone.find(&Name::from_ascii("hello.test.").unwrap());
    assert_eq!(place.service().unwrap().as_str(), "greeter.test");
}

#[test]
fn any_case_finds_a_name_and_comes_back_as_it_was_asked() {
    let zone = greeter();
    let found = ask(&zone, "_GrpcLB._TCP.Greeter.TEST.", RecordType::SRV);
    assert_eq!(data(&found.answers), ["lb.greeter.test.:9000"]);
    assert_eq!(
        found.answers[0].name.to_ascii(),
        "_GrpcLB._TCP.Greeter.TEST."
    );
}

#[test]
fn each_port_of_the_balancers_has_its_own_target() {
    let advertise = [
        "10.9.0.1:9000",
        "[2001:db8::1]:9000",
        "10.9.0.1:9100",
        "10.9.0.1:9000",
    ];
    let zone = zone_of(&config(), &advertise, &[GREETER]);
    let found = ask(&zone, "_grpclb._tcp.greeter.test.", RecordType::SRV);
    assert_eq!(
        data(&found.answers),
        ["lb.greeter.test.:9000", "lb2.greeter.test.:9100"]
    );
    assert_eq!(
        data(&found.additionals),
        ["10.9.0.1", "2001:db8::1", "10.9.0.1"]
    );
    let kind = RecordType::AAAA;
    let found = ask(&zone, "lb.greeter.test.", kind);
    assert_eq!(data(&found.answers), ["2001:db8::1"]);
    assert_nodata(&ask(&zone, "lb2.greeter.test.", kind), "greeter.test.");
}

#[test]
fn a_configured_target_is_one_name_for_all_services() {
    let config = DnsConfig {
        target: Some("lb.example.com".to_owned()),
        ..config()
    };
    let advertise = ["10.9.0.1:9000", "10.9.0.2:9100"];
    let zone = zone_of(&config, &advertise, &[GREETER, &["other.test"]]);
    for host in ["greeter.test.", "hello.test.", "other.test."] {
        let found = ask(&zone, &format!("_grpclb._tcp.{host}"), RecordType::SRV);
        assert_eq!(
            data(&found.answers),
            ["lb.example.com.:9000", "lb2.example.com.:9100"]
        );
    }
    let found = ask(&zone, "lb2.example.com.", RecordType::A);
    assert_eq!(data(&found.answers), ["10.9.0.2"]);
    let nodata = ask(&zone, "lb.example.com.", RecordType::AAAA);
    assert_nodata(&nodata, "lb.example.com.");
    assert_refused(&ask(&zone, "www.example.com.", RecordType::A));
}

#[test]
fn a_target_that_dns_cannot_hold_is_refused_at_start() {
    for bad in ["", "lb..example.com", &"a".repeat(64)] {
        let config = DnsConfig {
            target: Some(bad.to_owned()),
            ..config()
        };
        let settings = ZoneSettings::new(&config, &addrs(&["10.9.0.1:9000"]));
        let error: BadTarget = settings.unwrap_err();
        assert!(error.to_string().contains("lb.example.com"), "{error}");
    }
    // No room for the 2 of the second port.
    let config = DnsConfig {
        target: Some("a".repeat(63)),
        ..config()
    };
    let settings = |advertise: &[&str]| ZoneSettings::new(&config, &addrs(advertise));
    assert!(settings(&["10.9.0.1:1"]).is_ok());
    assert!(settings(&["10.9.0.1:1", "10.9.0.1:2"]).is_err());
}

#[test]
fn a_services_name_lists_at_most_eight_backends_and_each_in_its_turn() {
    let zone = greeter();
    let backends = ips(11);
    let mut first = BTreeSet::new();
    for turn in 0..11 {
        let view = View {
            turn,
            ..view(&zone, &backends)
        };
        let found = answer(&query("greeter.test.", RecordType::A), view);
        assert_eq!(found.answers.len(), MAX_BACKENDS);
        let listed: BTreeSet<_> = data(&found.answers).into_iter().collect();
        assert_eq!(listed.len(), MAX_BACKENDS, "no backend twice");
        first.insert(data(&found.answers)[0].clone());
    }
    assert_eq!(first.len(), 11, "each was first once");
}

#[test]
fn targets_and_their_addresses_rotate() {
    let zone = greeter();
    let turn = |kind, name, turn| {
        let view = View {
            turn,
            ..view(&zone, &[])
        };
        data(&answer(&query(name, kind), view).answers)
    };
    assert_eq!(turn(RecordType::A, "lb.greeter.test.", 0)[0], "10.9.0.1");
    assert_eq!(turn(RecordType::A, "lb.greeter.test.", 1)[0], "10.9.0.2");
    assert_eq!(turn(RecordType::A, "lb.greeter.test.", 2)[0], "10.9.0.1");
}

#[test]
fn a_service_without_backends_of_the_family_is_nodata() {
    let zone = greeter();
    let backends = ips(1);
    let aaaa = query("greeter.test.", RecordType::AAAA);
    assert_nodata(&answer(&aaaa, view(&zone, &backends)), "greeter.test.");
    assert_nodata(&ask(&zone, "greeter.test.", RecordType::A), "greeter.test.");
}

#[test]
fn a_service_not_ready_fails_but_its_balancers_are_found() {
    let zone = greeter();
    let view = View {
        backends: None,
        ..view(&zone, &[])
    };
    for kind in [RecordType::A, RecordType::AAAA] {
        let found = answer(&query("greeter.test.", kind), view);
        assert_eq!(found.code, ResponseCode::ServFail);
        assert!(found.authorities.is_empty());
    }
    let srv = query("_grpclb._tcp.greeter.test.", RecordType::SRV);
    assert_eq!(answer(&srv, view).answers.len(), 1);
    let lb = query("lb.greeter.test.", RecordType::A);
    assert_eq!(answer(&lb, view).answers.len(), 2);
}

#[test]
fn before_the_services_are_known_everything_fails() {
    let view = View {
        zone: None,
        backends: None,
        turn: 0,
    };
    let found = answer(&query("greeter.test.", RecordType::A), view);
    assert_eq!(found.code, ResponseCode::ServFail);
    assert_refused(&answer(&query("greeter.test.", RecordType::ANY), view));
}

#[test]
fn the_service_config_selects_grpclb() {
    let zone = greeter();
    for name in [
        "_grpc_config.greeter.test.",
        // Where grpc-js asks.
        "greeter.test.",
        "hello.test.",
    ] {
        assert_eq!(
            data(&ask(&zone, name, RecordType::TXT).answers),
            [
                r#"grpc_config=[{"serviceConfig":{"loadBalancingConfig":[{"grpclb":{}},{"round_robin":{}}]}}]"#
            ]
        );
    }
    let off = DnsConfig {
        service_config: false,
        ..config()
    };
    let zone = zone_of(&off, &["10.9.0.1:9000"], &[GREETER]);
    let found = ask(&zone, "_grpc_config.greeter.test.", RecordType::TXT);
    assert_eq!(found.code, ResponseCode::NXDomain);
    let found = ask(&zone, "greeter.test.", RecordType::TXT);
    assert_nodata(&found, "greeter.test.");
}

#[test]
fn a_name_of_a_zone_that_exists_or_lies_above_one_is_never_denied() {
    let zone = zone_of(
        &config(),
        &["10.9.0.1:9000"],
        &[GREETER, &["a.b.greeter.test"]],
    );
    for name in [
        "greeter.test.",
        "_tcp.greeter.test.",
        "_grpclb._tcp.greeter.test.",
        "_grpc_config.greeter.test.",
        "lb.greeter.test.",
        "b.greeter.test.",
    ] {
        assert_nodata(&ask(&zone, name, RecordType::MX), "greeter.test.");
        let unknown = RecordType::Unknown(4711);
        assert_nodata(&ask(&zone, name, unknown), "greeter.test.");
    }
    let below = ask(&zone, "a.b.greeter.test.", RecordType::MX);
    assert_nodata(&below, "a.b.greeter.test.");
}

#[test]
fn a_name_below_a_service_that_does_not_exist_is_denied() {
    let zone = greeter();
    for name in ["foo.greeter.test.", "_grpclb._tcp.lb.greeter.test."] {
        let found = ask(&zone, name, RecordType::SRV);
        assert_eq!(found.code, ResponseCode::NXDomain);
        assert!(found.authoritative);
        assert_eq!(found.authorities[0].name.to_ascii(), "greeter.test.");
    }
}

#[test]
fn everything_outside_and_above_is_refused() {
    let config = DnsConfig {
        target: Some("lb.example.com".to_owned()),
        ..config()
    };
    let zone = zone_of(&config, &["10.9.0.1:9000"], &[GREETER]);
    for name in [
        ".",
        "com.",
        "test.",
        "other.test.",
        "greeter.test.com.",
        "reeter.test.",
    ] {
        for kind in [RecordType::A, RecordType::NS, RecordType::SOA] {
            assert_refused(&ask(&zone, name, kind));
        }
    }
}

#[test]
fn any_transfers_and_other_classes_are_refused() {
    let zone = greeter();
    for kind in [
        RecordType::ANY,
        RecordType::AXFR,
        RecordType::IXFR,
        RecordType::OPT,
        RecordType::Unknown(253),
    ] {
        assert_refused(&ask(&zone, "greeter.test.", kind));
    }
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY, DNSClass::NONE] {
        let mut query = query("greeter.test.", RecordType::A);
        query.set_query_class(class);
        assert_refused(&answer(&query, view(&zone, &ips(1))));
    }
}

#[test]
fn the_apex_has_a_soa_and_the_balancers_as_name_servers() {
    let zone = zone_of(&config(), &["10.9.0.1:9000", "10.9.0.2:9100"], &[GREETER]);
    let found = ask(&zone, "Greeter.test.", RecordType::SOA);
    assert_eq!(
        data(&found.answers),
        ["lb.greeter.test. hostmaster.Greeter.test. 7 60 30 86400 5"]
    );
    let found = ask(&zone, "greeter.test.", RecordType::NS);
    assert!(found.authoritative);
    assert_eq!(
        data(&found.answers),
        ["lb.greeter.test.", "lb2.greeter.test."]
    );
    assert_eq!(data(&found.additionals), ["10.9.0.1", "10.9.0.2"]);
    for kind in [RecordType::SOA, RecordType::NS] {
        let below = ask(&zone, "lb.greeter.test.", kind);
        assert_nodata(&below, "greeter.test.");
    }
}

#[test]
fn a_shared_target_is_the_name_server_of_every_zone() {
    let config = DnsConfig {
        target: Some("lb.example.com".to_owned()),
        ..config()
    };
    let zone = zone_of(&config, &["10.9.0.1:9000"], &[GREETER]);
    for apex in ["greeter.test.", "hello.test.", "lb.example.com."] {
        let found = ask(&zone, apex, RecordType::NS);
        assert_eq!(data(&found.answers), ["lb.example.com."]);
        assert_eq!(data(&found.additionals), ["10.9.0.1"]);
    }
}

#[test]
fn a_service_that_a_port_belongs_to_is_known_by_its_host() {
    let found = |services: &[&[&str]]| {
        let zone = zone_of(&config(), &["10.9.0.1:9000"], services);
        let srv = ask(&zone, "_grpclb._tcp.greeter.test.", RecordType::SRV);
        assert_eq!(data(&srv.answers), ["lb.greeter.test.:9000"]);
        let place = zone.find(&Name::from_ascii("greeter.test.").unwrap());
        place.service().map(|name| name.as_str().to_owned())
    };
    let (one, two) = (&["greeter.test:1"][..], &["greeter.test:2"][..]);
    assert_eq!(found(&[one]).as_deref(), Some("greeter.test:1"));
    assert_eq!(
        found(&[one, two]),
        None,
        "a wrong backend is worse than none"
    );
    assert_eq!(
        found(&[one, two, GREETER]).as_deref(),
        Some("greeter.test"),
        "the name without a port is meant"
    );
}

#[test]
fn the_balancers_win_a_name_that_a_service_has_too() {
    let zone = zone_of(
        &config(),
        &["10.9.0.1:9000"],
        &[GREETER, &["lb.greeter.test"]],
    );
    let backends = ips(3);
    let lb = query("lb.greeter.test.", RecordType::A);
    let found = answer(&lb, view(&zone, &backends));
    assert_eq!(data(&found.answers), ["10.9.0.1"]);
    let place = zone.find(lb.name());
    assert!(matches!(place, ZoneMatch::Node(_)) && place.service().is_none());
}

#[test]
fn a_service_whose_name_dns_cannot_hold_disturbs_no_other() {
    let bad: &[&[&str]] = &[&["[::1]:80"], &["2001:db8::1"], GREETER];
    let zone = zone_of(&config(), &["10.9.0.1:9000"], bad);
    let found = ask(&zone, "_grpclb._tcp.greeter.test.", RecordType::SRV);
    assert_eq!(found.answers.len(), 1);
}

#[test]
fn ttls_are_whole_seconds_and_never_become_zero() {
    for (ttl, seconds) in [
        (1, 1),
        (999, 1),
        (1000, 1),
        (1001, 2),
        (u64::MAX, i32::MAX as u32),
    ] {
        let config = DnsConfig {
            ttl: Duration::from_millis(ttl),
            ..config()
        };
        let zone = zone_of(&config, &["10.9.0.1:9000"], &[GREETER]);
        let found = ask(&zone, "lb.greeter.test.", RecordType::A);
        assert_eq!(found.answers[0].ttl, seconds, "{ttl} ms");
    }
}
