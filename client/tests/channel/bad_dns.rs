//! DNS that lies, fails or stays silent: RPCs go on with what is good.

use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;
use lookaside_client::endpoint::Endpoint;
use lookaside_client::resolve::{
    Dns, DnsResolver, Reresolve, Resolution, ResolutionStream, Resolve,
};
use lookaside_client::{Channel, ResolveError};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{
    Backend, Balancer, DnsServer, Fault, connect, entry, hello, nobody, reach_at_last, within,
};

const SRV: &str = "_grpclb._tcp.greeter.test";

fn target(dns: &DnsServer, port: u16) -> String {
    format!("dns://{}/greeter.test:{port}", dns.addr)
}

#[tokio::test]
async fn lies_about_balancers_leave_the_addresses() {
    for fault in [
        Fault::Silence,
        Fault::Refusal,
        Fault::ServerFailure,
        Fault::Garbage,
        Fault::Truncation,
        Fault::NoSuchName,
        Fault::OtherName,
    ] {
        let dns = DnsServer::start().await;
        let spare = Backend::start("spare").await;
        dns.ip("greeter.test", spare.addr.ip());
        dns.srv(SRV, 1, "lb.test.");
        dns.fault(RecordType::SRV, fault);
        let target = target(&dns, spare.addr.port());
        let channel = connect(Channel::builder(target)).await.unwrap();
        assert_eq!(hello(&channel).await.unwrap(), "spare", "{fault:?}");
    }
}

#[tokio::test]
async fn lies_about_addresses_leave_the_balancer() {
    for fault in [
        Fault::Silence,
        Fault::Refusal,
        Fault::ServerFailure,
        Fault::Garbage,
        Fault::Truncation,
    ] {
        let dns = DnsServer::start().await;
        let mut balancer = Balancer::start().await;
        let a = Backend::start("a").await;
        dns.srv(SRV, balancer.addr.port(), "lb.test.");
        dns.ip("lb.test", balancer.addr.ip());
        dns.fault_of("greeter.test", RecordType::A, fault);
        let channel = Channel::builder(target(&dns, 1)).connect_lazy().unwrap();
        let stream = balancer.greet().await;
        stream.list([entry(a.addr, "")]);
        assert_eq!(hello(&channel).await.unwrap(), "a", "{fault:?}");
    }
}

#[tokio::test]
async fn the_good_ones_of_hundreds_of_targets_and_addresses_are_found() {
    let dns = DnsServer::start().await;
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    dns.srv_with_priority(SRV, 0, balancer.addr.port(), "many.test.");
    for i in 1..500 {
        dns.srv_with_priority(SRV, i, 1, &format!("lb{i}.test."));
    }
    for i in 2..=255 {
        dns.ip("many.test", [127, 0, 0, i].into());
    }
    dns.ip("many.test", balancer.addr.ip());
    let channel = Channel::builder(target(&dns, 1)).connect_lazy().unwrap();
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    assert!(dns.asked_over_tcp() > 0);
}

#[tokio::test]
async fn an_rpc_that_fails_says_what_dns_did() {
    const KNOWN: &str = "does this server know the service?";
    for (fault, wanted) in [
        (Fault::ServerFailure, &["Server Failure"][..]),
        (Fault::Refusal, &["Query Refused", KNOWN]),
        (Fault::NoSuchName, &["greeter.test has no addresses", KNOWN]),
    ] {
        let dns = DnsServer::start().await;
        for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV] {
            dns.fault(kind, fault);
        }
        let channel = Channel::builder(target(&dns, 1)).connect_lazy().unwrap();
        let error = hello(&channel).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unavailable);
        for wanted in wanted {
            assert!(error.message().contains(wanted), "{error}");
        }
        assert!(error.message().contains("greeter.test"), "{error}");
        let server = format!("at {}", dns.addr);
        assert!(error.message().contains(&server), "{error}");
    }
}

#[tokio::test]
async fn a_name_server_that_is_not_running_is_known_to_refuse() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap();
    drop(socket);
    let target = format!("dns://{server}/greeter.test:1");
    let error = connect(Channel::builder(target)).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_failure_that_passes_is_forgotten() {
    let dns = DnsServer::start().await;
    let spare = Backend::start("spare").await;
    dns.ip("greeter.test", spare.addr.ip());
    for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV] {
        dns.fault(kind, Fault::ServerFailure);
    }
    let target = target(&dns, spare.addr.port());
    let channel = Channel::builder(target).connect_lazy().unwrap();
    hello(&channel).await.unwrap_err();
    for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV] {
        dns.fault(kind, None);
    }
    reach_at_last(&channel, "spare").await;
}

#[tokio::test]
async fn a_server_that_never_answers_has_an_end() {
    for fault in [Fault::Silence, Fault::Garbage] {
        let dns = DnsServer::start().await;
        for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV] {
            dns.fault(kind, fault);
        }
        let client = Dns::at_within(dns.addr, Duration::from_millis(50)).unwrap();
        let mut resolver = DnsResolver::new(client, "greeter.test", None);
        let mut stream = resolver.resolve(Reresolve::default());
        let error = stream.next().await.unwrap().unwrap_err().to_string();
        assert!(error.contains("greeter.test"), "{error}");
    }
}

#[tokio::test]
async fn a_malformed_service_config_in_dns_changes_nothing() {
    let dns = DnsServer::start().await;
    let a = Backend::start("a").await;
    dns.ip("greeter.test", a.addr.ip());
    dns.txt("_grpc_config.greeter.test", "grpc_config=[{]");
    let target = target(&dns, a.addr.port());
    let builder = Channel::builder(target).txt_service_config(true);
    let channel = connect(builder).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn connect_fails_with_dead_backends_though_balancers_are_unknown() {
    let dns = DnsServer::start().await;
    let dead = nobody().await;
    dns.ip("greeter.test", dead.ip());
    dns.fault(RecordType::SRV, Fault::ServerFailure);
    let target = target(&dns, dead.port());
    let error = connect(Channel::builder(target)).await.unwrap_err();
    assert!(error.to_string().contains(&dead.to_string()), "{error}");
}

/// A resolver that says what the test says.
struct Told(Option<mpsc::Receiver<Result<Resolution, ResolveError>>>);

impl Resolve for Told {
    fn resolve(&mut self, _: Reresolve) -> ResolutionStream {
        Box::pin(ReceiverStream::new(self.0.take().unwrap()))
    }
}

#[tokio::test]
async fn what_was_known_serves_on_when_resolution_fails() {
    let a = Backend::start("a").await;
    let (tell, told) = mpsc::channel(1);
    let channel = Channel::builder("test:///greeter.test").resolver(Told(Some(told)));
    let channel = channel.connect_lazy().unwrap();
    let known = Resolution::from(vec![Endpoint::new(a.addr)]);
    tell.send(Ok(known)).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
    for _ in 0..4 {
        // When the third is taken, the first has been dealt with.
        let error = ResolveError("gone".to_owned());
        let taken = within("a place for the next result", tell.send(Err(error)));
        taken.await.unwrap();
    }
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test]
async fn a_resolver_that_ends_without_a_word_fails_rpcs_and_says_so() {
    let (tell, told) = mpsc::channel(1);
    drop(tell);
    let builder = Channel::builder("test:///greeter.test").resolver(Told(Some(told)));
    let error = connect(builder).await.unwrap_err();
    assert!(
        error.to_string().contains("the resolver has ended"),
        "{error}"
    );
}

#[tokio::test]
async fn what_was_known_serves_on_when_the_resolver_ends() {
    let a = Backend::start("a").await;
    let (tell, told) = mpsc::channel(1);
    let mut partial = Resolution::from(vec![Endpoint::new(a.addr)]);
    partial.pending = true;
    tell.send(Ok(partial)).await.unwrap();
    drop(tell);
    let builder = Channel::builder("test:///greeter.test").resolver(Told(Some(told)));
    let channel = connect(builder).await.unwrap();
    assert_eq!(hello(&channel).await.unwrap(), "a");
}
