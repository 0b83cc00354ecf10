//! What a service config does to a channel with a balancer: child policies, the
//! service's name and the fallback timeout.

use lookaside_client::ConnectivityState;
use tonic::{Code, Status};

use crate::harness::{Log, World, drop_entry, entry, hello, hellos, patient_hello, share};

const PICK_FIRST: &str = r#"{"grpclb": {"childPolicy": [{"pick_first": {}}]}}"#;
const ROUND_ROBIN: &str = r#"{"grpclb": {"childPolicy": [{"round_robin": {}}]}}"#;

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_not_known_here_is_passed_over_for_grpclb() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let channel = world.channel_with(|builder| builder);
    world.configure(r#"{"does_not_exist": {}}, {"grpclb": {}}"#, &[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, "")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 5);
}

#[tokio::test(start_paused = true)]
async fn grpclb_without_any_address_fails_rpcs_until_there_is_a_balancer() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.channel_with(|builder| builder);
    world.configure_without_balancer(r#"{"does_not_exist": {}}, {"grpclb": {}}"#, &[]);
    world.settle().await;
    assert_eq!(channel.state(), ConnectivityState::TransientFailure);
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    world.configure(ROUND_ROBIN, &[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_config_with_another_policy_leaves_the_balancer_alone() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let channel = world.channel_with(|builder| builder);
    world.configure(r#"{"round_robin": {}}, {"grpclb": {}}"#, &[&a, &b]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 5);
    world.pass(60.0).await;
    assert_eq!(world.balancer.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn pick_first_sends_all_to_one_and_a_change_to_round_robin_needs_no_new_stream() {
    let mut world = World::new();
    let backends = world.backends(["a", "b", "c"]);
    let channel = world.channel_with(|builder| builder);
    world.configure(PICK_FIRST, &[]);
    let stream = world.balancer.greet().await;
    let list = backends.each_ref().map(|backend| entry(backend.addr, ""));
    stream.list(list);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 30).await, "a"), 30);
    assert_eq!(backends[1].connections(), 0);
    world.configure(ROUND_ROBIN, &[]);
    world.settle().await;
    let names = hellos(&channel, 30).await;
    assert!(["a", "b", "c"].iter().all(|name| share(&names, name) == 10));
    world.configure(PICK_FIRST, &[]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 30).await, "a"), 30);
    world.pass(60.0).await;
    assert!(!world.balancer.is_wanted());
    let connections = backends.each_ref().map(|backend| backend.connections());
    assert_eq!(connections, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn without_a_child_policy_or_a_config_it_is_round_robin() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let channel = world.channel_with(|builder| builder);
    world.configure(PICK_FIRST, &[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, "")]);
    for config in [Some(r#"{"grpclb": {}}"#), None] {
        world.configure(PICK_FIRST, &[]);
        world.settle().await;
        assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
        match config {
            Some(config) => world.configure(config, &[]),
            None => world.names.balancers(&[world.balancer.addr], &[]),
        }
        world.settle().await;
        assert_eq!(share(&hellos(&channel, 10).await, "a"), 5);
    }
    assert!(!world.balancer.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn pick_first_stays_with_its_backend_for_as_long_as_lists_name_it() {
    let mut world = World::new();
    let [a, b, c] = world.backends(["a", "b", "c"]);
    let channel = world.channel_with(|builder| builder);
    world.configure(PICK_FIRST, &[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(b.addr, "1"), entry(c.addr, "1")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "b"), 10);
    // Named later in the list, it is still the one that has a connection.
    stream.list([entry(a.addr, "2"), entry(b.addr, "2")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "b"), 10);
    let token = b.calls().pop().unwrap().lb_token;
    assert_eq!(token.as_deref(), Some("2"));
    assert_eq!((a.connections(), b.connections()), (0, 1));
    // No longer named, it is left.
    stream.list([entry(c.addr, "3"), entry(a.addr, "3")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "c"), 10);
}

#[tokio::test(start_paused = true)]
async fn pick_first_applies_drops_also_those_of_a_list_with_the_same_backends() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let channel = world.channel_with(|builder| builder);
    world.configure(PICK_FIRST, &[]);
    let stream = world.balancer.greet().await;
    let (a_entry, b_entry) = (entry(a.addr, "one"), entry(b.addr, "two"));
    stream.list([a_entry.clone(), b_entry.clone()]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    stream.list([a_entry, drop_entry("rate"), b_entry]);
    world.settle().await;
    for turn in 0..30 {
        match hello(&channel).await {
            Ok(name) => assert!(name == "a" && turn % 3 != 1, "turn {turn}"),
            Err(status) => assert!(turn % 3 == 1, "turn {turn}: {status}"),
        }
    }
    assert_eq!(a.connections(), 1);
    let token = a.calls().pop().unwrap().lb_token;
    assert_eq!(token.as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn pick_first_moves_on_when_its_backend_dies_and_takes_the_next() {
    let mut world = World::new();
    let [mut a, b] = world.backends(["a", "b"]);
    let channel = world.channel_with(|builder| builder);
    world.configure(PICK_FIRST, &[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, ""), entry(b.addr, "")]);
    world.settle().await;
    a.kill();
    world.settle().await;
    assert_eq!(patient_hello(&channel).await.unwrap(), "b");
    assert_eq!(share(&hellos(&channel, 10).await, "b"), 10);
}

#[tokio::test(start_paused = true)]
async fn pick_first_fails_rpcs_on_an_empty_list_until_the_next_one() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.channel_with(|builder| builder);
    world.configure(PICK_FIRST, &[]);
    let stream = world.balancer.greet().await;
    for _ in 0..2 {
        stream.list([entry(a.addr, "")]);
        world.settle().await;
        assert_eq!(hello(&channel).await.unwrap(), "a");
        stream.list([]);
        world.settle().await;
        let status = hello(&channel).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("no backend"), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn pick_first_falls_back_after_ten_seconds_or_what_the_config_says() {
    let timed = r#"{"grpclb": {
        "childPolicy": [{"pick_first": {}}], "initialFallbackTimeout": "12.345s"
    }}"#;
    for (config, seconds) in [(PICK_FIRST, 10.0), (timed, 12.345)] {
        let mut world = World::new();
        let [a, spare, other] = world.backends(["a", "spare", "other"]);
        let channel = world.channel_with(|builder| builder);
        world.configure(config, &[&spare, &other]);
        let stream = world.balancer.greet().await;
        assert_eq!(hello(&channel).await.unwrap(), "spare");
        let now = world.now();
        assert!((seconds..seconds + 0.01).contains(&now), "{now}");
        assert_eq!(share(&hellos(&channel, 10).await, "spare"), 10);
        stream.list([entry(a.addr, "")]);
        world.settle().await;
        assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn the_configs_fallback_timeout_is_kept_and_a_list_in_time_disarms_it() {
    let config = r#"{"grpclb": {"initialFallbackTimeout": "12.345s"}}"#;
    for in_time in [false, true] {
        let mut world = World::new();
        let [a, spare] = world.backends(["a", "spare"]);
        let channel = world.channel_with(|builder| builder);
        world.configure(config, &[&spare]);
        let stream = world.balancer.greet().await;
        if in_time {
            world.pass(12.3).await;
            stream.list([entry(a.addr, "")]);
            world.pass(60.0).await;
            assert_eq!(hello(&channel).await.unwrap(), "a");
            assert_eq!(spare.connections(), 0);
        } else {
            assert_eq!(hello(&channel).await.unwrap(), "spare");
            assert!((12.345..12.355).contains(&world.now()), "{}", world.now());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_configs_service_name_is_what_the_balancer_is_told() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.channel_with(|builder| builder);
    world.configure(r#"{"grpclb": {"serviceName": "orders.test"}}"#, &[]);
    let mut stream = world.balancer.accept().await;
    assert_eq!(stream.name().await, "orders.test");
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    hello(&channel).await.unwrap();
    // The backends know the service by its own name.
    assert_eq!(a.calls()[0].authority, "greeter.test:50051");
}

#[tokio::test(start_paused = true)]
async fn another_service_name_means_another_stream_and_the_list_serves_meanwhile() {
    let mut world = World::new();
    let [a, b] = world.backends(["a", "b"]);
    let channel = world.channel_with(|builder| builder);
    world.configure(r#"{"grpclb": {}}"#, &[]);
    let mut stream = world.balancer.accept().await;
    assert_eq!(stream.name().await, "greeter.test:50051");
    stream.initial(std::time::Duration::ZERO);
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
    world.configure(r#"{"grpclb": {"serviceName": "orders.test"}}"#, &[]);
    let changed = world.now();
    let mut second = world.balancer.accept().await;
    assert!(world.now() - changed < 0.01);
    assert_eq!(second.name().await, "orders.test");
    assert!(stream.next_request().await.is_none());
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    second.initial(std::time::Duration::ZERO);
    second.list([entry(b.addr, "")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 10).await, "b"), 10);
    // The same name again is no other name.
    world.configure(r#"{"grpclb": {"serviceName": "orders.test"}}"#, &[]);
    world.pass(60.0).await;
    assert!(!world.balancer.is_wanted());
    assert_eq!(world.balancer.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_name_ends_the_wait_after_a_refusal_and_after_a_lost_connection() {
    for refused in [true, false] {
        let mut world = World::new();
        let channel = world.channel_with(|builder| builder);
        world.configure(r#"{"grpclb": {"serviceName": "one.test"}}"#, &[]);
        for _ in 0..10 {
            let stream = world.balancer.accept().await;
            stream.fail(Status::not_found("no such service"));
        }
        if !refused {
            world.settle().await;
            world.net.reset(world.balancer.addr);
        }
        world.pass(1.0).await;
        let changed = world.now();
        world.configure(r#"{"grpclb": {"serviceName": "two.test"}}"#, &[]);
        let mut stream = world.balancer.accept().await;
        assert_eq!(stream.name().await, "two.test");
        assert!(world.now() - changed < 0.01, "{}", world.now() - changed);
        drop(channel);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_service_config_says_that_is_not_known_here_is_logged_once() {
    let world = &mut World::new();
    let a = world.backend("a");
    let _channel = world.channel_with(|builder| builder);
    let log = Log::start();
    for _ in 0..3 {
        world.configure_without_balancer(r#"{"round_robin": {"weights": [1]}}"#, &[&a]);
        world.settle().await;
    }
    let said = log.warnings("settings that are not known here");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("loadBalancingConfig[0].round_robin.weights"),
        "{said:?}"
    );
}
