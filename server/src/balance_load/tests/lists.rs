//! What a client that behaves is sent.

use std::collections::{BTreeMap, BTreeSet};

use lookaside_proto::duration;

use super::raw::{Raw, initial};
use super::*;
use lookaside_core::model::Token;

fn last_token(list: &ServerList) -> String {
    list.servers.last().unwrap().load_balance_token.clone()
}

/// Where a list starts in its round.
fn first(list: &ServerList) -> u8 {
    list.servers[0].ip_address[3]
}

fn many(backends: u32) -> BTreeMap<BackendAddr, MemberFields> {
    let member = |n: u32| {
        let ip = std::net::Ipv4Addr::from(0x0a01_0000 + n);
        let addr = BackendAddr::new((ip, 80).into()).unwrap();
        (addr, MemberFields::default())
    };
    (0..backends).map(member).collect()
}

#[tokio::test]
async fn a_client_is_sent_the_list_and_then_what_changes() {
    let balancer = Balancer::serving(&[(1, 5.0), (2, 3.0), (3, 1.0)]);
    let mut client = balancer.follow("Greeter.test.:443").await;
    assert_eq!(counts(&client.list().await), [(1, 5), (2, 3), (3, 1)]);
    balancer.set(GREETER, &[(1, 1.0), (2, 3.0)]);
    assert_eq!(counts(&client.list().await), [(1, 1), (2, 3)]);
    let service = format!("{{service=\"{GREETER}\"}}");
    assert_eq!(balancer.metric(&format!("lists_sent_total{service}")), 2);
    assert_eq!(balancer.metric(STREAMS), 1);
    assert_eq!(
        balancer.metric(&format!("streams_opened_total{service}")),
        1
    );
}

#[tokio::test]
async fn the_report_interval_is_asked_for_and_never_under_a_second() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    for (asked, told) in [(5, 5), (0, 1)] {
        balancer
            .method
            .0
            .responses
            .ask_for_reports_every(Duration::from_secs(asked));
        let mut raw = Raw::connect(&balancer).await;
        let mut call = raw.call().await;
        call.send(initial(GREETER));
        let Some(LoadBalanceResponseType::InitialResponse(response)) = call.next().await else {
            panic!("no initial_response");
        };
        let interval = response.client_stats_report_interval.unwrap();
        let interval = duration::from_proto(&interval).unwrap();
        assert_eq!(interval, Duration::from_secs(told));
    }
}

#[tokio::test]
async fn only_the_first_list_of_a_stream_carries_a_nonce() {
    let balancer = Balancer::serving(&[(1, 1.0)]);
    let plain = Token::of(backend(1));
    let mut nonces = BTreeSet::new();
    for _ in 0..3 {
        let token = last_token(&balancer.follow(GREETER).await.list().await);
        let nonce = token.strip_prefix(plain.as_str()).expect("the token first");
        assert!(nonce.starts_with('.') && nonce.len() == 9, "{nonce}");
        nonces.insert(nonce.to_owned());
    }
    assert_eq!(nonces.len(), 3);

    let mut client = balancer.follow(GREETER).await;
    client.list().await;
    balancer.set(GREETER, &[(2, 1.0)]);
    let token = last_token(&client.list().await);
    assert_eq!(token, Token::of(backend(2)).as_str());
}

#[tokio::test]
async fn a_service_without_backends_says_fall_back() {
    let balancer = Balancer::serving(&[]);
    let mut client = balancer.follow(GREETER).await;
    let message = client.next().await.unwrap();
    assert!(matches!(
        message,
        LoadBalanceResponseType::FallbackResponse(_)
    ));
    balancer.set(GREETER, &[(1, 1.0)]);
    // The fallback_response made the client forget its list: no nonce.
    let list = client.list().await;
    assert_eq!(last_token(&list), Token::of(backend(1)).as_str());
    balancer.set(GREETER, &[]);
    let message = client.next().await.unwrap();
    assert!(matches!(
        message,
        LoadBalanceResponseType::FallbackResponse(_)
    ));
    let sent = format!("fallbacks_sent_total{{service=\"{GREETER}\"}}");
    assert_eq!(balancer.metric(&sent), 2);
}

#[tokio::test]
async fn clients_start_at_different_entries_and_elsewhere_after_each_push() {
    let eight: Vec<(u8, f64)> = (1..=8).map(|host| (host, 1.0)).collect();
    let balancer = Balancer::serving(&eight);
    let mut clients = Vec::new();
    let mut starts = BTreeSet::new();
    for _ in 0..8 {
        let mut client = balancer.follow(GREETER).await;
        starts.insert(first(&client.list().await));
        clients.push(client);
    }
    // Golden-ratio steps hit five of eight entries at least, wherever they begin.
    assert!(starts.len() >= 5, "{starts:?}");

    // Another in place of the last: the start moves by 0.75 of the eight.
    let mut before = None;
    for round in 0..6 {
        let mut changed = eight.clone();
        changed[7].0 = 8 + (round + 1) % 2;
        balancer.set(GREETER, &changed);
        let list = clients[0].list().await;
        assert_eq!(list.servers.len(), 8);
        let start = Some(first(&list));
        assert_ne!(start, before);
        before = start;
    }
}

#[tokio::test]
async fn a_stream_is_sent_only_what_changed_for_it() {
    let eight: Vec<(u8, f64)> = (1..=8).map(|host| (host, 1.0)).collect();
    let balancer = Balancer::serving(&eight);
    let service = balancer.catalogue.get(GREETER).unwrap();
    let mut client = balancer.follow(GREETER).await;
    assert_eq!(counts(&client.list().await).len(), 8);
    // Weights that hardly differ make the same list: nothing is sent for them.
    for weight in [1.01, 1.02] {
        let before = service.snapshot().unwrap().version;
        let mut changed = eight.clone();
        changed[7].1 = weight;
        balancer.set(GREETER, &changed);
        service.newer_than(before).await;
    }
    balancer.set(GREETER, &[(1, 1.0)]);
    assert_eq!(counts(&client.list().await), [(1, 1)]);
    let sent = format!("lists_sent_total{{service=\"{GREETER}\"}}");
    assert_eq!(balancer.metric(&sent), 2);
}

#[tokio::test]
async fn two_services_do_not_mix() {
    let balancer = Balancer::start();
    balancer.configure(&[(GREETER, &[]), ("other.test", &[])]);
    balancer.set(GREETER, &[(1, 1.0)]);
    balancer.set("other.test", &[(2, 1.0)]);
    let mut raw = Raw::connect(&balancer).await;
    let mut greeter = raw.follow(GREETER).await;
    let mut other = raw.follow("other.test").await;
    assert_eq!(counts(&greeter.list().await), [(1, 1)]);
    assert_eq!(counts(&other.list().await), [(2, 1)]);
}

#[tokio::test]
async fn a_list_larger_than_the_window_arrives_whole() {
    let balancer = Balancer::start();
    balancer.configure(&[(GREETER, &[])]);
    balancer.contribute(GREETER, many(2000));
    for window in [100, 16_383, 65_535] {
        let mut raw = Raw::with_window(&balancer, window).await;
        let list = raw.follow(GREETER).await.list().await;
        let addresses: BTreeSet<_> = list.servers.iter().map(|s| &s.ip_address).collect();
        assert_eq!(addresses.len(), 2000);
    }
}

#[tokio::test]
async fn a_slow_reader_gets_what_it_has_begun_and_then_the_newest() {
    let balancer = Balancer::serving(&[(1, 200.0), (2, 1.0)]);
    let mut raw = Raw::with_window(&balancer, 300).await;
    let mut call = raw.follow(GREETER).await;
    let service = balancer.catalogue.get(GREETER).unwrap();
    let sent = format!("lists_sent_total{{service=\"{GREETER}\"}}");
    balancer.until(|b| b.metric(&sent) == 1).await;
    for host in 3..8 {
        let before = service.snapshot().unwrap().version;
        balancer.set(GREETER, &[(host, 1.0)]);
        service.newer_than(before).await;
    }
    assert_eq!(counts(&call.list().await), [(1, 200), (2, 1)]);
    assert_eq!(counts(&call.list().await), [(7, 1)]);
    assert_eq!(balancer.metric(&sent), 2);
}
