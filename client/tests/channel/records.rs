//! From DNS records to addresses, balancers and service configs: what a resolver
//! makes of a zone.

use std::net::{IpAddr, SocketAddr};

use futures_util::StreamExt as _;
use hickory_resolver::proto::rr::RecordType;
use lookaside_client::endpoint::{Address, Endpoint};
use lookaside_client::resolve::{Balancers, Dns, DnsResolver, Reresolve, Resolution, Resolve};
use lookaside_client::service_config::PolicyConfig;

use crate::harness::{DnsServer, Fault, within};

const SRV: &str = "_grpclb._tcp.greeter.test";
const TXT: &str = "_grpc_config.greeter.test";

/// The first resolution after which nothing more is to come, or the error.
async fn resolve(dns: &DnsServer) -> Result<Resolution, String> {
    let client = Dns::at(dns.addr).unwrap();
    let mut resolver =
        DnsResolver::new(client, "greeter.test", Some(50051)).txt_service_config(true);
    let mut stream = resolver.resolve(Reresolve::default());
    loop {
        let result = within("a resolution", stream.next()).await;
        match result.unwrap() {
            Ok(resolution) if resolution.pending => {}
            result => return result.map_err(|error| error.to_string()),
        }
    }
}

fn addresses(resolution: &Resolution) -> Vec<String> {
    let address = |endpoint: &Endpoint| match &endpoint.address {
        Address::Tcp(addr) => addr.to_string(),
        other => panic!("{other}"),
    };
    resolution.endpoints.iter().map(address).collect()
}

/// `address name` of each.
fn balancers(resolution: &Resolution) -> Vec<String> {
    match &resolution.balancers {
        Balancers::Known(known) => known
            .iter()
            .map(|balancer| format!("{} {}", balancer.addr, balancer.authority))
            .collect(),
        Balancers::Absent => vec![],
        Balancers::Unknown => panic!("unknown"),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn addresses_of_both_families_and_no_srv() {
    let dns = DnsServer::start().await;
    dns.ip("greeter.test", ip("1.2.3.4"));
    dns.ip("greeter.test", ip("5.6.7.8"));
    dns.ip("greeter.test", ip("2607:f8b0:400a:801::1001"));
    let found = resolve(&dns).await.unwrap();
    assert_eq!(
        addresses(&found),
        [
            "1.2.3.4:50051",
            "5.6.7.8:50051",
            "[2607:f8b0:400a:801::1001]:50051"
        ]
    );
    assert_eq!(found.balancers, Balancers::Absent);
    assert_eq!(found.service_config, None);
}

#[tokio::test]
async fn an_srv_target_with_one_address_or_several_of_either_family() {
    for ips in [
        vec!["1.2.3.4"],
        vec!["1.2.3.5", "1.2.3.6", "1.2.3.7"],
        vec!["2607:f8b0:400a:801::1001"],
        vec![
            "2607:f8b0:400a:801::1002",
            "2607:f8b0:400a:801::1003",
            "2607:f8b0:400a:801::1004",
        ],
    ] {
        let dns = DnsServer::start().await;
        dns.srv(SRV, 1234, "lb.test.");
        for text in &ips {
            dns.ip("lb.test", ip(text));
        }
        let found = resolve(&dns).await.unwrap();
        let wanted = ips
            .iter()
            .map(|text| format!("{} lb.test", SocketAddr::new(ip(text), 1234)));
        assert_eq!(balancers(&found), wanted.collect::<Vec<_>>());
        assert_eq!(addresses(&found), [""; 0]);
    }
}

#[tokio::test]
async fn balancers_addresses_and_service_config_beside_each_other() {
    let dns = DnsServer::start().await;
    dns.srv(SRV, 1234, "lb.test.");
    dns.ip("lb.test", ip("1.2.3.4"));
    dns.ip("greeter.test", ip("5.5.5.5"));
    // Longer than one string of a TXT record may be.
    let filler = format!(r#"{{"methodConfig":[{{"note":"{}"}}],"#, "x".repeat(400));
    let config = r#""loadBalancingConfig":[{"round_robin":{}}]}"#;
    dns.txt(TXT, "v=spf1 -all");
    dns.txt(
        TXT,
        &format!(
            r#"grpc_config=[{{"clientLanguage":["go"],"serviceConfig":{{}}}},{{"serviceConfig":{filler}{config}}}]"#
        ),
    );
    let found = resolve(&dns).await.unwrap();
    assert_eq!(balancers(&found), ["1.2.3.4:1234 lb.test"]);
    assert_eq!(addresses(&found), ["5.5.5.5:50051"]);
    let policy = found.service_config.unwrap().policy;
    assert_eq!(policy, Some(PolicyConfig::RoundRobin));
}

#[tokio::test]
async fn targets_are_in_order_of_priority_each_with_its_own_name() {
    let dns = DnsServer::start().await;
    dns.srv_with_priority(SRV, 20, 3, "third.test.");
    dns.srv_with_priority(SRV, 10, 2, "second.test.");
    dns.srv_with_priority(SRV, 0, 1, "First.Test.");
    dns.ip("first.test", ip("1.1.1.1"));
    dns.ip("second.test", ip("2.2.2.2"));
    dns.ip("third.test", ip("3.3.3.3"));
    let found = resolve(&dns).await.unwrap();
    assert_eq!(
        balancers(&found),
        [
            "1.1.1.1:1 First.Test",
            "2.2.2.2:2 second.test",
            "3.3.3.3:3 third.test"
        ]
    );
}

#[tokio::test]
async fn a_target_without_addresses_is_left_out() {
    let dns = DnsServer::start().await;
    dns.srv_with_priority(SRV, 0, 1234, "missing.test.");
    dns.ip("greeter.test", ip("5.5.5.5"));
    let found = resolve(&dns).await.unwrap();
    assert_eq!(found.balancers, Balancers::Absent);
    assert_eq!(addresses(&found), ["5.5.5.5:50051"]);
    dns.srv_with_priority(SRV, 1, 1234, "lb.test.");
    dns.ip("lb.test", ip("1.2.3.4"));
    let found = resolve(&dns).await.unwrap();
    assert_eq!(balancers(&found), ["1.2.3.4:1234 lb.test"]);
}

#[tokio::test]
async fn records_that_name_no_target_or_no_port_do_not_count() {
    let dns = DnsServer::start().await;
    dns.srv(SRV, 1234, ".");
    dns.srv(SRV, 0, "lb.test.");
    dns.ip("lb.test", ip("1.2.3.4"));
    dns.ip("greeter.test", ip("5.5.5.5"));
    let found = resolve(&dns).await.unwrap();
    assert_eq!(found.balancers, Balancers::Absent);
    assert!(!dns.asked().iter().any(|(name, _)| name == "lb.test"));
}

#[tokio::test]
async fn aliases_are_followed_wherever_they_stand() {
    let dns = DnsServer::start().await;
    dns.cname("greeter.test", "www.other.test.");
    dns.ip("www.other.test", ip("5.5.5.5"));
    dns.cname(SRV, "_grpclb._tcp.other.test.");
    dns.srv("_grpclb._tcp.other.test", 1234, "lb.test.");
    dns.cname("lb.test", "lb-7.test.");
    dns.ip("lb-7.test", ip("1.2.3.4"));
    dns.cname(TXT, "_grpc_config.other.test.");
    dns.txt(
        "_grpc_config.other.test",
        r#"grpc_config=[{"serviceConfig":{"loadBalancingPolicy":"round_robin"}}]"#,
    );
    let found = resolve(&dns).await.unwrap();
    assert_eq!(addresses(&found), ["5.5.5.5:50051"]);
    assert_eq!(balancers(&found), ["1.2.3.4:1234 lb.test"]);
    assert!(found.service_config.is_some());
}

#[tokio::test]
async fn aliases_that_lead_in_a_circle_end() {
    let dns = DnsServer::start().await;
    dns.ip("greeter.test", ip("5.5.5.5"));
    dns.srv(SRV, 1, "round.test.");
    dns.srv(SRV, 1234, "lb.test.");
    dns.srv(SRV, 2, SRV);
    dns.cname("round.test", "and-round.test.");
    dns.cname("and-round.test", "round.test.");
    dns.ip("lb.test", ip("1.2.3.4"));
    let found = resolve(&dns).await.unwrap();
    assert_eq!(balancers(&found), ["1.2.3.4:1234 lb.test"]);
    assert_eq!(addresses(&found), ["5.5.5.5:50051"]);
}

#[tokio::test]
async fn an_srv_name_in_a_circle_of_aliases_leaves_the_addresses() {
    let dns = DnsServer::start().await;
    dns.ip("greeter.test", ip("5.5.5.5"));
    dns.cname(SRV, "round.test.");
    dns.cname("round.test", &format!("{SRV}."));
    let found = resolve(&dns).await.unwrap();
    assert_eq!(addresses(&found), ["5.5.5.5:50051"]);
}

#[tokio::test]
async fn answers_for_another_name_do_not_count() {
    for kind in [RecordType::A, RecordType::SRV, RecordType::TXT] {
        let dns = DnsServer::start().await;
        dns.ip("greeter.test", ip("5.5.5.5"));
        dns.ip("greeter.test", ip("::5"));
        dns.srv(SRV, 1234, "lb.test.");
        dns.ip("lb.test", ip("::1"));
        dns.txt(TXT, r#"grpc_config=[{"serviceConfig":{}}]"#);
        dns.fault(kind, Fault::OtherName);
        let found = resolve(&dns).await.unwrap();
        let ipv4 = addresses(&found).contains(&"5.5.5.5:50051".to_owned());
        assert_eq!(ipv4, kind != RecordType::A);
        let known = matches!(found.balancers, Balancers::Known(_));
        assert_eq!(known, kind != RecordType::SRV);
        assert_eq!(found.service_config.is_some(), kind != RecordType::TXT);
    }
}

#[tokio::test]
async fn what_is_too_long_for_a_datagram_comes_by_tcp() {
    let dns = DnsServer::start().await;
    for i in 0..=300_u16 {
        let [a, b] = i.to_be_bytes();
        dns.ip("lb.test", [10, 0, a, b].into());
    }
    dns.srv(SRV, 1234, "lb.test.");
    dns.ip("greeter.test", ip("5.5.5.5"));
    let found = resolve(&dns).await.unwrap();
    assert_eq!(balancers(&found).len(), 301);
    assert_eq!(dns.asked_over_tcp(), 1);
}

#[tokio::test]
async fn a_failure_of_one_family_leaves_the_other() {
    for (kind, left) in [
        (RecordType::A, "[::5]:50051"),
        (RecordType::AAAA, "5.5.5.5:50051"),
    ] {
        for fault in [Fault::ServerFailure, Fault::Silence, Fault::Truncation] {
            let dns = DnsServer::start().await;
            dns.ip("greeter.test", ip("5.5.5.5"));
            dns.ip("greeter.test", ip("::5"));
            dns.fault(kind, fault);
            let found = resolve(&dns).await.unwrap();
            assert_eq!(addresses(&found), [left], "{kind} {fault:?}");
        }
    }
}
