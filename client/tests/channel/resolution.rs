//! Finding balancer and backends in DNS.

use hickory_resolver::proto::rr::RecordType;
use lookaside_client::Channel;
use lookaside_client::resolve::{FixedResolver, Resolution};

use crate::harness::{
    Backend, Balancer, DnsServer, Fault, connect, entry, hello, hellos, nobody, reach, share,
};

/// Has `greeter.test` balanced by `balancer`, as `lb.test`.
fn name_balancer(dns: &DnsServer, balancer: &Balancer) {
    dns.srv(
        "_grpclb._tcp.greeter.test",
        balancer.addr.port(),
        "lb.test.",
    );
    dns.ip("lb.test", balancer.addr.ip());
}

#[tokio::test]
async fn srv_leads_to_the_balancer() {
    let dns = DnsServer::start().await;
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    name_balancer(&dns, &balancer);
    let target = format!("dns://{}/greeter.test:50051", dns.addr);
    let channel = Channel::builder(target).connect_lazy().unwrap();
    let mut stream = balancer.accept().await;
    assert_eq!(stream.name().await, "greeter.test:50051");
    assert_eq!(stream.authority, "lb.test");
    stream.initial(std::time::Duration::ZERO);
    stream.list([entry(a.addr, "")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn connect_waits_for_the_balancers_list_where_there_are_addresses_too() {
    let dns = DnsServer::start().await;
    let mut balancer = Balancer::start().await;
    let (a, spare) = (Backend::start("a").await, Backend::start("spare").await);
    name_balancer(&dns, &balancer);
    dns.ip("greeter.test", spare.addr.ip());
    let target = format!("dns://{}/greeter.test:{}", dns.addr, spare.addr.port());
    let connecting = tokio::spawn(connect(Channel::builder(target)));
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    let channel = connecting.await.unwrap().unwrap();
    assert_eq!(share(&hellos(&channel, 20).await, "a"), 20);
}

#[tokio::test]
async fn the_first_calls_of_a_lazy_channel_wait_for_the_balancers_list() {
    let dns = DnsServer::start().await;
    let mut balancer = Balancer::start().await;
    let (a, spare) = (Backend::start("a").await, Backend::start("spare").await);
    name_balancer(&dns, &balancer);
    dns.ip("greeter.test", spare.addr.ip());
    let target = format!("dns://{}/greeter.test:{}", dns.addr, spare.addr.port());
    let channel = Channel::builder(target).connect_lazy().unwrap();
    let calls: Vec<_> = (0..40).map(|_| tokio::spawn(hello(&channel))).collect();
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "a");
    }
    assert_eq!(spare.connections(), 0);
}

#[tokio::test]
async fn without_srv_the_addresses_are_used() {
    let dns = DnsServer::start().await;
    let a = Backend::start("a").await;
    dns.ip("greeter.test", a.addr.ip());
    let target = format!("dns://{}/greeter.test:{}", dns.addr, a.addr.port());
    let channel = connect(Channel::builder(target)).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn an_srv_query_without_answer_delays_nobody() {
    let dns = DnsServer::start().await;
    let a = Backend::start("a").await;
    dns.ip("greeter.test", a.addr.ip());
    dns.fault(RecordType::SRV, Fault::Silence);
    let target = format!("dns://{}/greeter.test:{}", dns.addr, a.addr.port());
    let channel = Channel::builder(target).connect_lazy().unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
    let asked = dns.asked();
    assert!(
        asked.iter().any(|(_, kind)| *kind == RecordType::SRV),
        "{asked:?}"
    );
}

#[tokio::test]
async fn localhost_and_ip_literals_get_no_srv_query() {
    let dns = DnsServer::start().await;
    let a = Backend::start("a").await;
    dns.ip("localhost", a.addr.ip());
    for host in ["localhost", "127.0.0.1"] {
        let target = format!("dns://{}/{host}:{}", dns.addr, a.addr.port());
        let channel = connect(Channel::builder(target)).await.unwrap();
        assert_eq!(hello(&channel).await.unwrap(), "a");
    }
    let asked = dns.asked();
    assert!(
        asked.iter().all(|(_, kind)| *kind != RecordType::SRV),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_list_may_have_names_beside_addresses() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let (a_port, b_addr) = (a.addr.port(), b.addr);
    let target = format!("static:localhost:{a_port},{b_addr}");
    let builder = Channel::builder(target).round_robin();
    let channel = connect(builder).await.unwrap();
    reach(&channel, "a").await;
    reach(&channel, "b").await;
    // As a fallback too.
    let target = format!("static:localhost:{a_port}");
    let builder = Channel::builder(target).balancer(nobody().await.to_string());
    let channel = connect(builder).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn names_may_have_underscores_and_begin_with_a_hyphen() {
    for (host, lb) in [
        ("my_greeter.test", "lb_1.stack_default"),
        ("-greeter.test", "-lb.test"),
    ] {
        let dns = DnsServer::start().await;
        let mut balancer = Balancer::start().await;
        let a = Backend::start("a").await;
        dns.srv(
            &format!("_grpclb._tcp.{host}"),
            balancer.addr.port(),
            &format!("{lb}."),
        );
        dns.ip(lb, balancer.addr.ip());
        dns.ip(host, a.addr.ip());
        let target = format!("dns://{}/{host}:{}", dns.addr, a.addr.port());
        let channel = Channel::builder(target).connect_lazy().unwrap();
        let mut stream = balancer.accept().await;
        assert_eq!(stream.name().await, format!("{host}:{}", a.addr.port()));
        assert_eq!(stream.authority, lb);
        stream.initial(std::time::Duration::ZERO);
        stream.list([entry(a.addr, "")]);
        assert_eq!(hello(&channel).await.unwrap(), "a");
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_named_in_the_error() {
    let dns = DnsServer::start().await;
    let target = format!("dns://{}/nowhere.test:80", dns.addr);
    let error = connect(Channel::builder(target)).await.unwrap_err();
    assert!(error.to_string().contains("nowhere.test"), "{error}");
    assert!(error.to_string().contains("no addresses"), "{error}");
}

#[tokio::test]
async fn malformed_settings_are_refused_with_the_reason() {
    let port = Channel::builder("dns:///a:b:c").connect_lazy().unwrap_err();
    assert!(port.to_string().contains("a:b:c"), "{port}");
    let missing = Channel::builder("a:1").balancer("lb").connect_lazy();
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("host:port"), "{missing}");
    for (address, right) in [
        (
            "http://lb.test:9000",
            r#"no URL; write host:port: "lb.test:9000""#,
        ),
        ("https://lb.test/x", "no URL; write host:port"),
        (
            "dns:///lb.test:9000",
            r#"no URL; write host:port: "lb.test:9000""#,
        ),
        ("lb test:9000", "write host:port"),
        ("lb.test:0", "ports are 1 to 65535"),
        ("", "write host:port"),
    ] {
        let error = Channel::builder("a:1").balancer(address).connect_lazy();
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("balancer {address:?}: ")),
            "{error}"
        );
        assert!(error.contains(right), "{error}");
    }
    let agent = Channel::builder("a:1").user_agent("a\nb").connect_lazy();
    assert!(agent.unwrap_err().to_string().contains("user agent"));
    let both = Channel::builder("a:1")
        .balancer("lb:1")
        .resolver(FixedResolver::new(Resolution::default()))
        .connect_lazy();
    let both = both.unwrap_err().to_string();
    assert!(both.contains("with_balancers"), "{both}");
}

#[tokio::test]
async fn a_dead_balancer_in_dns_leaves_the_addresses() {
    let dns = DnsServer::start().await;
    let spare = Backend::start("spare").await;
    let dead = nobody().await;
    dns.srv("_grpclb._tcp.greeter.test", dead.port(), "lb.test.");
    dns.ip("lb.test", dead.ip());
    dns.ip("greeter.test", spare.addr.ip());
    let target = format!("dns://{}/greeter.test:{}", dns.addr, spare.addr.port());
    let channel = connect(Channel::builder(target)).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "spare");
}

#[tokio::test]
async fn a_balancer_that_appears_later_takes_over_without_a_lost_rpc() {
    let dns = DnsServer::start().await;
    let mut balancer = Balancer::start().await;
    let (a, spare) = (Backend::start("a").await, Backend::start("spare").await);
    name_balancer(&dns, &balancer);
    dns.ip("greeter.test", spare.addr.ip());
    dns.fault(RecordType::SRV, Fault::Refusal);
    let target = format!("dns://{}/greeter.test:{}", dns.addr, spare.addr.port());
    let channel = connect(Channel::builder(target)).await.unwrap();
    assert_eq!(share(&hellos(&channel, 20).await, "spare"), 20);
    dns.fault(RecordType::SRV, None);
    let stream = balancer.greet().await;
    // What served goes on until the list is there.
    assert_eq!(share(&hellos(&channel, 20).await, "spare"), 20);
    stream.list([entry(a.addr, "")]);
    reach(&channel, "a").await;
}

#[tokio::test]
async fn a_service_config_in_dns_chooses_the_policy_if_it_is_asked_for() {
    let dns = DnsServer::start().await;
    let mut balancer = Balancer::start().await;
    let (a, spare) = (Backend::start("a").await, Backend::start("spare").await);
    name_balancer(&dns, &balancer);
    dns.ip("greeter.test", spare.addr.ip());
    dns.txt(
        "_grpc_config.greeter.test",
        r#"grpc_config=[{"serviceConfig":{"loadBalancingConfig":[{"round_robin":{}}]}}]"#,
    );
    let target = format!("dns://{}/greeter.test:{}", dns.addr, spare.addr.port());
    let connecting = tokio::spawn(connect(Channel::builder(&target)));
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    let channel = connecting.await.unwrap().unwrap();
    assert_eq!(share(&hellos(&channel, 20).await, "a"), 20);
    let asked = dns.asked();
    assert!(
        asked.iter().all(|(_, kind)| *kind != RecordType::TXT),
        "{asked:?}"
    );
    // A config that names another policy than grpclb does without the balancer.
    let channel = Channel::builder(&target).txt_service_config(true);
    let channel = connect(channel).await.unwrap();
    assert_eq!(share(&hellos(&channel, 20).await, "spare"), 20);
}

#[tokio::test]
async fn a_txt_query_without_answer_delays_nobody() {
    let dns = DnsServer::start().await;
    let a = Backend::start("a").await;
    dns.ip("greeter.test", a.addr.ip());
    dns.fault(RecordType::TXT, Fault::Silence);
    let target = format!("dns://{}/greeter.test:{}", dns.addr, a.addr.port());
    let builder = Channel::builder(target).txt_service_config(true);
    let channel = builder.connect_lazy().unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
    let asked = dns.asked();
    let txt = ("_grpc_config.greeter.test".to_owned(), RecordType::TXT);
    assert!(asked.contains(&txt), "{asked:?}");
}
