//! What a balancer's list does to RPCs.

use lookaside_client::Channel;

use crate::harness::{
    Backend, Balancer, entry, follow, hello, hellos, nobody, reach, reach_at_last, share,
    until_share,
};

#[tokio::test]
async fn equal_entries_get_equal_shares() {
    let mut balancer = Balancer::start().await;
    let (a, b, c) = (
        Backend::start("a").await,
        Backend::start("b").await,
        Backend::start("c").await,
    );
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, ""), entry(c.addr, "")]);
    // Until all three are connected, the shares are among those that are.
    until_share(&channel, "a", 1, 3).await;
    until_share(&channel, "b", 1, 3).await;
    until_share(&channel, "c", 1, 3).await;
    let names = hellos(&channel, 300).await;
    for name in ["a", "b", "c"] {
        assert_eq!(share(&names, name), 100);
    }
}

#[tokio::test]
async fn an_entry_listed_three_times_gets_three_turns_in_order() {
    let mut balancer = Balancer::start().await;
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    let (a, b) = (a.addr, b.addr);
    stream.list([entry(a, ""), entry(a, ""), entry(b, ""), entry(a, "")]);
    until_share(&channel, "b", 1, 4).await;
    let names = hellos(&channel, 400).await;
    assert_eq!(share(&names, "a"), 300);
    // "b" never has its turn twice in a row, and always after three others.
    for round in names.windows(4) {
        assert_eq!(share(round, "b"), 1);
    }
}

#[tokio::test]
async fn an_address_listed_often_has_one_connection() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list(vec![entry(a.addr, ""); 20]);
    hellos(&channel, 40).await;
    assert_eq!(a.connections(), 1);
}

#[tokio::test]
async fn every_entry_has_its_own_token() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([
        entry(a.addr, "one"),
        entry(a.addr, "two"),
        entry(a.addr, ""),
    ]);
    hellos(&channel, 30).await;
    let calls = a.calls();
    for token in [Some("one"), Some("two"), None] {
        let with = calls
            .iter()
            .filter(|call| call.lb_token.as_deref() == token);
        assert_eq!(with.count(), 10, "{token:?}");
    }
}

#[tokio::test]
async fn backends_see_the_services_name_and_the_balancer_is_told_it() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = Channel::builder("dns:///greeter.example.com:50051")
        .balancer(balancer.addr.to_string())
        .user_agent("shop/1.0")
        .connect_lazy()
        .unwrap();
    let mut stream = balancer.accept().await;
    assert_eq!(stream.name().await, "greeter.example.com:50051");
    assert_eq!(stream.authority, "127.0.0.1");
    stream.initial(std::time::Duration::ZERO);
    stream.list([entry(a.addr, "")]);
    hello(&channel).await.unwrap();
    let call = a.calls().remove(0);
    assert_eq!(call.authority, "greeter.example.com:50051");
    let agent = concat!("shop/1.0 grpc-rust-lookaside/", env!("CARGO_PKG_VERSION"));
    assert_eq!(call.user_agent, agent);
}

#[tokio::test]
async fn a_new_list_takes_over_when_its_backend_is_ready() {
    let mut balancer = Balancer::start().await;
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    stream.list([entry(b.addr, "")]);
    // No RPC fails or waits on the way.
    reach(&channel, "b").await;
    assert_eq!(share(&hellos(&channel, 20).await, "b"), 20);
}

#[tokio::test]
async fn a_dead_backend_costs_no_rpc_and_the_others_share() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let dead = nobody().await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(dead, "")]);
    assert_eq!(share(&hellos(&channel, 50).await, "a"), 50);
}

#[tokio::test]
async fn rpcs_to_unreachable_backends_fail_unavailable_and_say_why() {
    let mut balancer = Balancer::start().await;
    let dead = nobody().await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([entry(dead, "")]);
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let text = status.message();
    assert!(
        text.contains(&dead.to_string()) && text.contains("refused"),
        "{text}"
    );
}

#[tokio::test]
async fn an_empty_list_fails_rpcs_until_the_next_one() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    stream.list([]);
    let status = hello(&channel).await.unwrap_err();
    assert!(status.message().contains("no backend"), "{status}");
    stream.list([entry(a.addr, "")]);
    reach_at_last(&channel, "a").await;
}

#[tokio::test]
async fn bad_entries_do_not_disturb_the_good_ones() {
    let mut balancer = Balancer::start().await;
    let a = Backend::start("a").await;
    let channel = follow(&balancer);
    let stream = balancer.greet().await;
    let mut bad_port = entry(a.addr, "");
    bad_port.port = 70_000;
    let mut bad_ip = entry(a.addr, "");
    bad_ip.ip_address = vec![1, 2, 3];
    let long = entry(a.addr, &"x".repeat(60));
    stream.list([bad_port, bad_ip, long, entry(a.addr, "grün")]);
    assert_eq!(share(&hellos(&channel, 20).await, "a"), 20);
    assert!(a.calls().iter().all(|call| call.lb_token.is_none()));
}
