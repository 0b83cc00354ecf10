//! What the channel makes of what its resolver says, and when it asks again.

use std::time::Duration;

use lookaside_client::ConnectivityState;
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tonic::{Code, Request, Status};

use crate::harness::{World, entry, hello, hellos, share};

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
    world.pass(60.0).await;
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
    world.pass(30.0).await;
    assert_eq!(world.names.wishes(), 0);
    stream.fallback();
    world.settle().await;
    let before = world.names.wishes();
    spare.kill();
    world.settle().await;
    assert!(world.names.wishes() > before);
}
