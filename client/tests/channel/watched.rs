//! What an application learns of its calls: a hook at each end, a policy of its own that
//! sees codes and trailers, and errors that can be matched.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lookaside_client::policy::{
    CallEnd, CallTracker, Pick, PickArgs, Picked, Picker, Ready, Spread,
};
use lookaside_client::{Channel, ConnectError, ConnectErrorKind, Error};
use tokio::net::TcpListener;
use tonic::{Code, Request};

use crate::harness::{Backend, Balancer, DnsServer, call, connect, hello, named, nobody, until};

const METHOD: &str = "/helloworld.Greeter/SayHello";

type Told = Arc<Mutex<Vec<(String, Option<String>, Code, Duration)>>>;

/// A channel, and what its hook was told.
fn watched(target: String) -> (Channel, Told) {
    let told = Told::default();
    let heard = Arc::clone(&told);
    let builder = Channel::builder(target).on_call_end(move |call| {
        let backend = call.backend.map(ToString::to_string);
        let end = (call.method.to_owned(), backend, call.code, call.latency);
        heard.lock().unwrap().push(end);
    });
    (builder.connect_lazy().unwrap(), told)
}

fn only(told: &Told) -> (String, Option<String>, Code, Duration) {
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told.len(), 1, "{told:?}");
    told.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_hook_hears_of_each_call_once_with_its_backend_and_code() {
    let backend = Backend::start("a").await;
    let (channel, told) = watched(format!("static:{}", backend.addr));
    assert_eq!(hello(&channel).await.unwrap(), "a");
    let there = Some(backend.addr.to_string());
    let (method, at, code, latency) = only(&told);
    assert_eq!(
        (method.as_str(), at, code),
        (METHOD, there.clone(), Code::Ok)
    );
    assert!(latency > Duration::ZERO);

    backend.fail_next(1);
    let status = hello(&channel).await.unwrap_err();
    let (_, at, code, _) = only(&told);
    assert_eq!((at, code), (there.clone(), status.code()));

    backend.hold(true);
    let mut request = Request::new(named("test"));
    request.set_timeout(Duration::from_millis(50));
    call(&channel, request).await.unwrap_err();
    let (_, at, code, latency) = only(&told);
    assert_eq!((at, code), (there.clone(), Code::DeadlineExceeded));
    assert!(latency >= Duration::from_millis(50), "{latency:?}");

    let waiting = tokio::spawn(hello(&channel));
    until("a call that hangs", async || backend.calls().len() >= 4).await;
    waiting.abort();
    until("its end", async || !told.lock().unwrap().is_empty()).await;
    let (_, at, code, _) = only(&told);
    assert_eq!((at, code), (there, Code::Cancelled));
}

#[tokio::test]
async fn a_call_that_was_not_sent_has_no_backend() {
    let (channel, told) = watched(format!("static:{}", nobody().await));
    hello(&channel).await.unwrap_err();
    let (_, backend, code, _) = only(&told);
    assert_eq!((backend, code), (None, Code::Unavailable));
}

/// Notes how calls end: code, `grpc-status` among the trailers, and time.
#[derive(Debug, Default)]
struct Ends(Mutex<Vec<(Code, Option<String>, Duration)>>);

impl CallTracker for Ends {
    fn started(&self) {}

    fn finished(&self, end: CallEnd<'_>) {
        let status = end
            .trailers
            .and_then(|trailers| trailers.get("grpc-status"));
        let status = status.map(|status| status.to_str().unwrap().to_owned());
        let mut ends = self.0.lock().unwrap();
        ends.push((end.code, status, end.elapsed));
    }

    fn timed(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct First(Ready, Arc<dyn CallTracker>);

impl Picker for First {
    fn pick(&self, _args: &PickArgs<'_>) -> Pick<'_> {
        Pick::Complete(Picked {
            tracker: Some(&self.1),
            ..self.0.picked()
        })
    }
}

#[tokio::test]
async fn a_policy_of_ones_own_sees_code_trailers_and_time_of_each_call() {
    let backend = Backend::start("a").await;
    let ends = Arc::<Ends>::default();
    let tracker = Arc::clone(&ends) as Arc<dyn CallTracker>;
    let builder = Channel::builder(format!("static:{}", backend.addr)).policy(move |_| {
        let tracker = Arc::clone(&tracker);
        Box::new(Spread::with(move |mut ready: Vec<Ready>| {
            First(ready.remove(0), Arc::clone(&tracker))
        }))
    });
    let channel = connect(builder).await.unwrap();
    hello(&channel).await.unwrap();
    // A response that is headers only.
    backend.fail_next(1);
    let failed = hello(&channel).await.unwrap_err().code();
    backend.hold(true);
    let mut request = Request::new(named("test"));
    request.set_timeout(Duration::from_millis(20));
    call(&channel, request).await.unwrap_err();
    let ends = std::mem::take(&mut *ends.0.lock().unwrap());
    let seen: Vec<_> = ends.iter().map(|end| (end.0, end.1.clone())).collect();
    let failed_status = (failed as i32).to_string();
    assert_eq!(seen[0], (Code::Ok, Some("0".to_owned())));
    assert_eq!(seen[1], (failed, Some(failed_status)));
    assert_eq!(seen[2], (Code::DeadlineExceeded, None));
    assert!(ends[2].2 >= Duration::from_millis(20), "{ends:?}");
    assert_eq!(ends.len(), 3);
}

async fn kind(channel: &Channel) -> ConnectErrorKind {
    let status = hello(channel).await.unwrap_err();
    ConnectError::of(&status)
        .unwrap_or_else(|| panic!("{status:?}"))
        .kind()
}

#[tokio::test]
async fn why_there_is_no_connection_can_be_matched() {
    let refused = nobody().await;
    for builder in [
        Channel::builder(format!("static:{refused}")),
        Channel::builder(format!("static:{refused}")).round_robin(),
    ] {
        let channel = builder.connect_lazy().unwrap();
        assert_eq!(kind(&channel).await, ConnectErrorKind::Refused);
    }
    let builder = Channel::builder(format!("static:{refused}"));
    let error = connect(builder).await.unwrap_err();
    let Error::Connect(inner) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(inner.kind(), ConnectErrorKind::Refused);
    assert_eq!(ConnectError::of(&error), Some(inner));
    let cause = std::error::Error::source(inner).unwrap();
    let io: &std::io::Error = cause.downcast_ref().unwrap();
    assert_eq!(io.kind(), std::io::ErrorKind::ConnectionRefused);

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let builder = Channel::builder(format!("static:{}", silent.local_addr().unwrap()));
    let channel = builder.connect_timeout(Duration::from_millis(50));
    let channel = channel.connect_lazy().unwrap();
    assert_eq!(kind(&channel).await, ConnectErrorKind::Timeout);

    let dns = DnsServer::start().await;
    let target = format!("dns://{}/nowhere.test:50051", dns.addr);
    let channel = Channel::builder(target).connect_lazy().unwrap();
    assert_eq!(kind(&channel).await, ConnectErrorKind::Dns);
}

#[tokio::test]
async fn why_a_balancer_gives_no_list_can_be_matched() {
    let refused = nobody().await;
    let follow = |balancer: std::net::SocketAddr| {
        let builder = Channel::builder("dns:///greeter.test:1").balancer(balancer.to_string());
        builder.connect_lazy().unwrap()
    };
    assert_eq!(kind(&follow(refused)).await, ConnectErrorKind::Refused);

    // Reached, it refuses; the status is at hand.
    let mut balancer = Balancer::start().await;
    let channel = follow(balancer.addr);
    let stream = balancer.accept().await;
    stream.fail(tonic::Status::not_found("no such service"));
    let status = hello(&channel).await.unwrap_err();
    let error = ConnectError::of(&status).unwrap();
    assert_eq!(error.kind(), ConnectErrorKind::Balancer);
    let cause = std::error::Error::source(error).unwrap();
    let cause: &tonic::Status = cause.downcast_ref().unwrap();
    assert_eq!(cause.code(), Code::NotFound);

    // It has no backend, and there is no fallback.
    let mut balancer = Balancer::start().await;
    let channel = follow(balancer.addr);
    balancer.greet().await.fallback();
    assert_eq!(kind(&channel).await, ConnectErrorKind::Balancer);
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_failed_handshake_can_be_matched() {
    let backend = Backend::start("plain").await;
    let builder = Channel::builder(format!("static:{}", backend.addr));
    let tls = lookaside_client::ClientTls::new().ca_pem(ca());
    let channel = builder.tls(tls).connect_lazy().unwrap();
    assert_eq!(kind(&channel).await, ConnectErrorKind::Tls);
}

#[cfg(feature = "tls")]
fn ca() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.self_signed(&key).unwrap().pem()
}
