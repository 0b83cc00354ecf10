//! What the channel makes of what its resolver says, and when it asks again.

use std::time::Duration;

use lookaside_client::{Channel, ConnectivityState};
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tonic::{Code, Request, Status};

use crate::harness::{Backend, World, entry, hello, hellos, share};

#[tokio::test(start_paused = true)]
async fn without_a_balancer_the_addresses_are_used_at_once_and_nobody_asks_again() {
    let mut world = World::new();
    let [spare, other, a] = world.backends(["spare", "other", "a"]);
    let channel = world.channel_with(|builder| builder);
    for backend in [&spare, &other, &spare] {
        let before = world.now();
        world.names.addresses(&[backend.addr]);
        world.settle().await;
        assert_eq!(hello(&channel).await.unwrap(), backend.name());
        assert!(world.now() - before < 0.01);
        world.pass(30.0).await;
    }
    assert_eq!(world.names.wishes(), 0);
    // A balancer that appears is followed; that it is no longer named does not take
    // it away, as its stream is well.
    world.names.balancers(&[world.balancer.addr], &[spare.addr]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    world.names.addresses(&[spare.addr]);
    world.pass(30.0).await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    assert!(!world.balancer.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn a_balancer_found_late_interrupts_nobody() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = world.channel_with(|builder| builder);
    world.names.balancers_unknown(&[spare.addr]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "spare");
    world.names.balancers(&[world.balancer.addr], &[spare.addr]);
    let stream = world.balancer.greet().await;
    // Before, while and after the fallback timeout passes.
    for _ in 0..30 {
        assert_eq!(share(&hellos(&channel, 5).await, "spare"), 5);
        world.pass(0.5).await;
    }
    assert_eq!(spare.connections(), 1);
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(share(&hellos(&channel, 5).await, "a"), 5);
}

#[tokio::test(start_paused = true)]
async fn rpcs_wait_for_what_the_resolver_has_still_to_say() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.channel_with(|builder| builder);
    // Addresses at which nobody listens, and a balancer whose name is on its way.
    let dead = world.net.address();
    world.names.pending(&[dead]);
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { hello(&channel).await }
    });
    world.pass(3.0).await;
    assert!(!world.dials(dead).is_empty() && !waiting.is_finished());
    assert_eq!(channel.state(), ConnectivityState::Connecting);
    world.names.balancers(&[world.balancer.addr], &[dead]);
    let stream = world.balancer.greet().await;
    world.pass(3.0).await;
    assert!(!waiting.is_finished(), "its list is on its way");
    stream.list([entry(a.addr, "")]);
    assert_eq!(waiting.await.unwrap().unwrap(), "a");
    assert_eq!(channel.metrics().failed_picks, 0);
}

#[tokio::test(start_paused = true)]
async fn rpcs_fail_once_the_resolver_has_said_that_there_is_no_balancer() {
    let mut world = World::new();
    let channel = world.channel_with(|builder| builder);
    let dead = world.net.address();
    world.names.pending(&[dead]);
    let mut request = Request::new(HelloRequest::default());
    request.set_timeout(Duration::from_secs(2));
    let mut greeter = GreeterClient::new(channel.clone());
    let expired = greeter.say_hello(request).await.unwrap_err();
    assert_eq!(expired.code(), Code::DeadlineExceeded);
    let text = expired.message();
    assert!(text.contains("waited for a connection"), "{text}");
    assert_eq!(channel.metrics().expired, 1);
    world.names.addresses(&[dead]);
    world.settle().await;
    let failed = hello(&channel).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    assert!(failed.message().contains(&dead.to_string()), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn without_any_address_rpcs_fail_and_say_so() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.channel_with(|builder| builder);
    world.names.addresses(&[]);
    world.settle().await;
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no addresses"), "{status}");
    world.names.addresses(&[a.addr]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
    // That there are none any more is an answer too.
    world.names.addresses(&[]);
    world.settle().await;
    let status = hello(&channel).await.unwrap_err();
    assert!(status.message().contains("no addresses"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn names_that_cannot_be_resolved_fail_rpcs_until_they_can() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = world.channel_with(|builder| builder);
    world.names.fail("the name server is on fire");
    world.settle().await;
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("on fire"), "{status}");
    world.names.balancers(&[world.balancer.addr], &[]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn names_that_no_longer_resolve_do_not_touch_what_works() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    world.names.fail("the name server is on fire");
    world.pass(60.0).await;
    assert_eq!(share(&hellos(&channel, 10).await, "a"), 10);
    assert!(!world.balancer.is_wanted());
    // Nor the fallback that is known.
    stream.fallback();
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "spare");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_asks_for_another_look_each_time() {
    let mut world = World::new();
    let a = world.backend("a");
    let _channel = world.follow(&[]);
    for ended in 0..5 {
        let stream = world.balancer.accept().await;
        assert_eq!(world.names.wishes(), ended);
        stream.fail(Status::unavailable("overloaded"));
        world.settle().await;
    }
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(world.names.wishes(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_dead_backend_asks_for_another_look_only_if_the_resolver_named_it() {
    let mut world = World::new();
    let [mut a, mut spare] = world.backends(["a", "spare"]);
    let _channel = world.follow(&[&spare]);
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    // The balancer's backends are the balancer's business.
    a.kill();
    world.pass(20.0).await;
    assert_eq!(world.names.wishes(), 0);
    stream.fallback();
    world.settle().await;
    let before = world.names.wishes();
    spare.kill();
    world.settle().await;
    assert!(world.names.wishes() > before);
}

/// A channel that follows the balancer with `a` in its list, and is idle.
async fn idle(world: &mut World, a: &Backend, spare: &Backend) -> Channel {
    let minute = Duration::from_secs(60);
    let channel = world.follow_with(&[spare], |builder| builder.idle_timeout(minute));
    let stream = world.balancer.greet().await;
    stream.list([entry(a.addr, "")]);
    world.settle().await;
    assert_eq!(hello(&channel).await.unwrap(), "a");
    world.pass(130.0).await;
    assert_eq!(channel.state(), ConnectivityState::Idle);
    channel
}

#[tokio::test(start_paused = true)]
async fn after_idle_rpcs_wait_for_the_balancers_list() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = idle(&mut world, &a, &spare).await;
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(hello(&channel))).collect();
    // The addresses come first, the balancers later, and then the list.
    world.names.pending(&[spare.addr]);
    world.pass(3.0).await;
    world.names.balancers(&[world.balancer.addr], &[spare.addr]);
    let stream = world.balancer.greet().await;
    world.pass(3.0).await;
    stream.list([entry(a.addr, "")]);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "a");
    }
    assert_eq!(spare.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_idle_the_balancers_of_before_are_used_if_nothing_is_heard_of_them() {
    for failing in [true, false] {
        let mut world = World::new();
        let [a, spare] = world.backends(["a", "spare"]);
        let channel = idle(&mut world, &a, &spare).await;
        let call = tokio::spawn(hello(&channel));
        let woken = world.now();
        match failing {
            true => world.names.fail("the name server is on fire"),
            false => world.names.pending(&[spare.addr]),
        }
        let stream = world.balancer.greet().await;
        let waited = world.now() - woken;
        assert!(waited < if failing { 0.1 } else { 10.1 }, "{waited}");
        stream.list([entry(a.addr, "")]);
        assert_eq!(call.await.unwrap().unwrap(), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn after_idle_a_service_may_have_left_its_balancer() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = idle(&mut world, &a, &spare).await;
    let call = tokio::spawn(hello(&channel));
    world.names.pending(&[spare.addr]);
    world.pass(1.0).await;
    world.names.addresses(&[spare.addr]);
    assert_eq!(call.await.unwrap().unwrap(), "spare");
    world.settle().await;
    assert!(!world.balancer.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn after_idle_a_balancer_that_is_dead_means_fallback() {
    let mut world = World::new();
    let [a, spare] = world.backends(["a", "spare"]);
    let channel = idle(&mut world, &a, &spare).await;
    world.balancer.kill();
    let call = tokio::spawn(hello(&channel));
    let woken = world.now();
    world.names.balancers(&[world.balancer.addr], &[spare.addr]);
    assert_eq!(call.await.unwrap().unwrap(), "spare");
    assert!(world.now() - woken < 0.1);
}

#[tokio::test(start_paused = true)]
async fn news_are_asked_for_while_they_are_of_use() {
    // Of backends that are all in use, and of balancers.
    for follows in [false, true] {
        let mut world = World::new();
        let [a, b] = world.backends(["a", "b"]);
        let channel = world.channel_with(|builder| builder.round_robin());
        let _stream = match follows {
            false => {
                world.names.addresses(&[a.addr]);
                None
            }
            true => {
                world.names.balancers(&[world.balancer.addr], &[]);
                let stream = world.balancer.greet().await;
                stream.list([entry(a.addr, "")]);
                Some(stream)
            }
        };
        world.pass(100.0).await;
        assert_eq!(world.names.wishes(), 4);
        if !follows {
            world.names.addresses(&[a.addr, b.addr]);
            world.settle().await;
            assert_eq!(share(&hellos(&channel, 10).await, "b"), 5);
        }
    }
}
