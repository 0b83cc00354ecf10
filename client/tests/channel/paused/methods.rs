//! What a service config says of single methods: timeout, waiting, and trying again.

use std::time::Duration;

use lookaside_client::Channel;
use lookaside_client::resolve::Resolution;
use tonic::{Code, Request};

use crate::harness::{Backend, World, call, hello, named};

const RETRY: &str = r#""retryPolicy":{"maxAttempts":4,"initialBackoff":"1s","maxBackoff":"10s",
    "backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}"#;

/// A channel to `backend` whose RPCs go by this method config.
fn channel(world: &mut World, settings: &str, backend: &Backend) -> Channel {
    let config = format!(r#"{{"methodConfig":[{{"name":[{{}}],{settings}}}]}}"#);
    channel_by(world, &config, backend)
}

fn channel_by(world: &mut World, config: &str, backend: &Backend) -> Channel {
    let config = config.parse().unwrap();
    world.names.addresses(&[backend.addr]);
    world.channel_with(|builder| builder.service_config(config))
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_after_growing_pauses() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = channel(&mut world, RETRY, &a);
    a.fail_next(2);
    assert_eq!(hello(&channel).await.unwrap(), "a");
    let took = world.now();
    assert!((2.4..=3.6).contains(&took), "{took}");
    let attempts: Vec<_> = a
        .calls()
        .into_iter()
        .map(|call| call.previous_attempts)
        .collect();
    assert_eq!(attempts, [None, Some("1".to_owned()), Some("2".to_owned())]);
    assert!(a.calls().iter().all(|call| call.caller == "test"));
    // The last attempt's failure is the RPC's.
    a.fail_next(100);
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "as asked")
    );
    assert_eq!(a.calls().len(), 3 + 4);
    assert_eq!(channel.metrics().picks, channel.metrics().finished);
}

#[tokio::test(start_paused = true)]
async fn codes_that_the_policy_does_not_name_are_final() {
    let mut world = World::new();
    let a = world.backend("a");
    let channel = channel(&mut world, RETRY, &a);
    let status = call(&channel, Request::new(named("fail")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    assert_eq!(a.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_attempts() {
    let mut world = World::new();
    let a = world.backend("a");
    let settings = format!(r#"{RETRY},"timeout":"2s""#);
    let channel = channel(&mut world, &settings, &a);
    a.fail_next(100);
    let status = hello(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!((world.now() - 2.0).abs() < 0.01, "{}", world.now());
    assert_eq!(a.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn with_few_tokens_left_nothing_is_tried_again() {
    let mut world = World::new();
    let a = world.backend("a");
    let config = format!(
        r#"{{"methodConfig":[{{"name":[{{}}],{RETRY}}}],
            "retryThrottling":{{"maxTokens":10,"tokenRatio":1}}}}"#
    );
    let channel = channel_by(&mut world, &config, &a);
    a.fail_next(100);
    for _ in 0..10 {
        hello(&channel).await.unwrap_err();
    }
    // Four of ten tokens are for other attempts, the fifth failure is the last.
    assert_eq!(a.calls().len(), 10 + 4 - 1);
    // What succeeds fills them again.
    a.fail_next(0);
    for _ in 0..10 {
        hello(&channel).await.unwrap();
    }
    a.fail_next(1);
    assert_eq!(hello(&channel).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn the_shorter_one_of_two_timeouts_counts() {
    for (own, wanted, header) in [
        (None, 2.0, "2000000u"),
        (Some(1), 1.0, "1000000u"),
        (Some(9), 2.0, "2000000u"),
    ] {
        let mut world = World::new();
        let a = world.backend("a");
        a.hold(true);
        let channel = channel(&mut world, r#""timeout":"2s""#, &a);
        let mut request = Request::new(named("test"));
        if let Some(own) = own {
            request.set_timeout(Duration::from_secs(own));
        }
        let status = call(&channel, request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(
            (world.now() - wanted).abs() < 0.01,
            "{own:?}: {}",
            world.now()
        );
        assert_eq!(a.calls()[0].timeout.as_deref(), Some(header));
    }
}

#[tokio::test(start_paused = true)]
async fn rpcs_wait_for_a_connection_if_the_config_says_so() {
    let mut world = World::new();
    let addr = world.net.address();
    let config = r#"{"methodConfig":[
        {"name":[{"service":"helloworld.Greeter","method":"SayHello"}],"waitForReady":true}]}"#;
    // Of the resolver, which comes before the application's.
    let channel = world.channel_with(|builder| builder.service_config("{}".parse().unwrap()));
    let known = Resolution::from(vec![addr.into()]);
    let known = known.with_service_config(config.parse().unwrap());
    world.names.answer(Ok(known));
    world.settle().await;
    let waiting = tokio::spawn(hello(&channel));
    world.pass(5.0).await;
    assert!(!waiting.is_finished());
    let _late = world.backend_at("late", addr);
    assert_eq!(waiting.await.unwrap().unwrap(), "late");
}
