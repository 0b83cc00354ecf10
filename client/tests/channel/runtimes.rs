//! Channels whose runtime is not the caller's, has ended, or is not there.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use lookaside_client::{Channel, ConnectivityState, Error, WaitForReady};
use lookaside_proto::helloworld::HelloRequest;
use lookaside_proto::helloworld::greeter_client::GreeterClient;
use tokio::runtime::Runtime;
use tonic::{Code, Request};

use super::harness::{Backend, Balancer, entry, hello};

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` without any runtime.
fn plainly<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

fn request(timeout: Option<Duration>, waits: bool) -> Request<HelloRequest> {
    let mut request = Request::new(HelloRequest::default());
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    if waits {
        request.extensions_mut().insert(WaitForReady);
    }
    request
}

#[test]
fn calls_on_a_channel_whose_runtime_ended_fail_and_do_not_wait() {
    for runs in [true, false] {
        let first = runtime();
        let channel = first.block_on(async {
            let channel = Channel::builder("static:127.0.0.1:1")
                .connect_lazy()
                .unwrap();
            if runs {
                // A channel that has begun to run.
                hello(&channel).await.unwrap_err();
            }
            channel
        });
        drop(first);
        assert_eq!(channel.state(), ConnectivityState::Shutdown);
        for waits in [true, false] {
            let mut client = GreeterClient::new(channel.clone());
            let answer = runtime().block_on(client.say_hello(request(None, waits)));
            let error = answer.unwrap_err();
            assert_eq!(error.code(), Code::Unavailable);
            assert!(error.message().contains("shut down"), "{error}");
        }
    }
}

#[test]
fn a_channel_without_a_runtime_is_an_error() {
    let error = Channel::builder("static:127.0.0.1:1").connect_lazy();
    let error = error.unwrap_err();
    assert_eq!(error, Error::NoRuntime);
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}

#[test]
fn calls_from_a_thread_without_a_runtime_work() {
    let home = Runtime::new().unwrap();
    let (backend, channel) = home.block_on(async {
        let backend = Backend::start("a").await;
        let target = format!("static:{}", backend.addr);
        (backend, Channel::builder(target).connect_lazy().unwrap())
    });
    let mut client = GreeterClient::new(channel);
    plainly(client.say_hello(request(None, false))).unwrap();
    plainly(client.say_hello(request(Some(Duration::from_secs(10)), true))).unwrap();
    // One whose message is sent by a task.
    let long = HelloRequest {
        name: "x".repeat(500_000),
    };
    let chunk = plainly(client.say_hello(long)).unwrap();
    assert_eq!(chunk.into_inner().message, backend.name());
    backend.hold(true);
    let short = Duration::from_millis(50);
    let late = plainly(client.say_hello(request(Some(short), false))).unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    backend.hold(false);
}

#[test]
fn an_upload_outlives_the_runtime_on_which_it_began() {
    let home = Runtime::new().unwrap();
    let (backend, channel) = home.block_on(async {
        let backend = Backend::start("a").await;
        let target = format!("static:{}", backend.addr);
        (backend, Channel::builder(target).connect().await.unwrap())
    });
    backend.hold(true);
    let name = "x".repeat(4_000_000);
    let mut call = Box::pin(async move {
        let mut client = GreeterClient::new(channel);
        client.say_hello(HelloRequest { name }).await
    });
    let other = runtime();
    other.block_on(async { assert!(futures_util::poll!(&mut call).is_pending()) });
    drop(other);
    backend.hold(false);
    let bound = async { tokio::time::timeout(Duration::from_secs(10), call).await };
    home.block_on(bound).unwrap().unwrap();
}

#[tokio::test]
async fn never_is_a_time_that_every_setting_takes() {
    let mut balancer = Balancer::start().await;
    let backend = Backend::start("a").await;
    let channel = Channel::builder("dns:///greeter.test:1")
        .balancer(balancer.addr.to_string())
        .fallback_timeout(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .keepalive(Duration::MAX, Duration::MAX)
        .keepalive_while_idle(true)
        .connect_lazy()
        .unwrap();
    let stream = balancer.greet().await;
    stream.list([entry(backend.addr, "")]);
    hello(&channel).await.unwrap();
    // The longest that the header can say.
    let mut longest = request(None, true);
    let metadata = longest.metadata_mut();
    metadata.insert("grpc-timeout", "99999999H".parse().unwrap());
    GreeterClient::new(channel)
        .say_hello(longest)
        .await
        .unwrap();
}
