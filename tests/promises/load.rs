//! Backends that are asked how busy they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use lookaside_backend::{Load, Utilization};
use lookaside_proto::bsm_v1::load_report_server::{LoadReport, LoadReportServer};
use lookaside_proto::bsm_v1::{LoadRequest, LoadResponse};
use lookaside_proto::helloworld::greeter_server::{Greeter, GreeterServer};
use lookaside_proto::helloworld::{HelloReply, HelloRequest};
use lookaside_tests::{Backends, Balancer, service, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::registration::until_counted;

struct Answering;

#[tonic::async_trait]
impl Greeter for Answering {
    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply::default()))
    }
}

fn asking(listed: &str) -> String {
    listed.replace(
        "backends",
        "load = { kind = \"orca\", interval = \"1s\" }\nbackends",
    )
}

/// A backend that reports this utilisation by ORCA, and where it is.
pub(crate) async fn reporting(utilization: f64, tasks: &mut JoinSet<()>) -> (Load, SocketAddr) {
    let load = Load::new(Utilization::Set);
    load.set_utilization(utilization);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(GreeterServer::new(Answering))
        .add_service(load.orca())
        .serve_with_incoming(TcpListenerStream::new(listener));
    tasks.spawn(async move { server.await.unwrap() });
    (load, addr)
}

#[tokio::test]
async fn a_backend_that_serves_orca_is_asked_and_its_reports_count() {
    let mut tasks = JoinSet::new();
    let (_load, addr) = reporting(0.5, &mut tasks).await;
    let balancer = Balancer::start(&asking(&service("greeter.test", &[(addr, 1.0)]))).await;
    until_counted(
        &balancer,
        "lookaside_load_reports_total{result=\"taken\"} 3",
    )
    .await;
    until_counted(&balancer, "lookaside_load_streams 1").await;

    // It is no backend any more, and is not asked any more.
    balancer.edit(&asking(&service(
        "greeter.test",
        &[("127.0.0.1:9".parse().unwrap(), 1.0)],
    )));
    until_counted(&balancer, "lookaside_load_streams 0").await;
    until_counted(
        &balancer,
        "lookaside_load_streams_ended_total{reason=\"no_connection\"} 1",
    )
    .await;
    balancer.stop().await;
}

#[tokio::test]
async fn a_backend_without_orca_is_asked_once_on_a_connection() {
    // In a runtime of its own, so that it can end with its connections.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let backends = runtime.spawn(Backends::start(1)).await.unwrap();
    let asking = asking(&service("greeter.test", &backends.weighted(&[1.0])));
    let balancer = Balancer::start(&asking).await;
    let once = "lookaside_load_streams_ended_total{reason=\"unimplemented\"} 1";
    until_counted(&balancer, once).await;
    runtime.shutdown_background();
    // Its end is noticed: from then on there is nobody to ask.
    let gone = "lookaside_load_streams_ended_total{reason=\"no_connection\"} 1";
    until_counted(&balancer, gone).await;
    until_counted(&balancer, once).await;
    balancer.stop().await;
}

#[tokio::test]
async fn who_lacks_the_first_way_is_asked_by_the_next_until_it_connects_anew() {
    let mut tasks = JoinSet::new();
    // One like those of Go, one of bsm/grpclb, one that has neither.
    let (load, orca) = reporting(0.5, &mut tasks).await;
    let scores = Arc::new(Scores(AtomicI64::new(50)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bsm = listener.local_addr().unwrap();
    let restart = Arc::new(tokio::sync::Notify::new());
    let old = {
        let (restart, scores) = (Arc::clone(&restart), Arc::clone(&scores));
        async move {
            let server = tonic::transport::Server::builder()
                .add_service(LoadReportServer::from_arc(scores))
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), restart.notified());
            server.await.unwrap();
        }
    };
    let neither = Backends::start(1).await;
    let ways = "load = [{ kind = \"orca\", interval = \"1s\" }, \
                { kind = \"load_report\", interval = \"1s\", capacity = 200 }]\n\
                policy = \"feedback\"\nbackends";
    let all = [(orca, 1.0), (bsm, 1.0), (neither.addr(0), 1.0)];
    let text = service("greeter.test", &all).replace("backends", ways);
    let old = tasks.spawn(old);
    let balancer = Balancer::start(&text).await;
    let says = |addr, utilization| {
        format!(
            "lookaside_backend_utilization{{service=\"greeter.test\",backend=\"{addr}\"}} \
             {utilization}"
        )
    };
    until_counted(&balancer, &says(orca, 0.5)).await;
    until_counted(&balancer, &says(bsm, 0.25)).await;
    for asked in [
        "lookaside_load_streams_ended_total{reason=\"unimplemented\"} 2",
        "lookaside_load_polls_total{kind=\"load_report\",result=\"unimplemented\"} 1",
        "lookaside_load_asked_backends{kind=\"orca\"} 1",
        "lookaside_load_asked_backends{kind=\"load_report\"} 1",
    ] {
        until_counted(&balancer, asked).await;
    }

    // It was updated: on its next connection it is asked by ORCA again, and has it.
    restart.notify_one();
    soon("the old one ends", async {
        while !old.is_finished() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let listener = TcpListener::bind(bsm).await.unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(load.orca())
        .serve_with_incoming(TcpListenerStream::new(listener));
    tasks.spawn(async move { server.await.unwrap() });
    for asked in [
        "lookaside_load_streams 2",
        "lookaside_load_asked_backends{kind=\"orca\"} 2",
        "lookaside_load_asked_backends{kind=\"load_report\"} 0",
    ] {
        until_counted(&balancer, asked).await;
    }
    balancer.stop().await;
}

/// A page for Prometheus whose text a test decides, until it is dropped.
pub(crate) struct Page {
    pub(crate) addr: SocketAddr,
    text: tokio::sync::watch::Sender<String>,
    _tasks: JoinSet<()>,
}

impl Page {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (text, texts) = tokio::sync::watch::channel(String::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut asked = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let text = texts.borrow().clone();
                asked.spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(text.as_bytes()).await;
                    if text.is_empty() {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self {
            addr,
            text,
            _tasks: tasks,
        }
    }

    /// From now on the page is this.
    pub(crate) fn show(&self, body: &str) {
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n{body}"
        );
        self.text.send_replace(text);
    }
}

pub(crate) async fn until_polled(balancer: &Balancer, kind: &str, result: &str) {
    let line = format!("lookaside_load_polls_total{{kind=\"{kind}\",result=\"{result}\"}}");
    let counted = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
        loop {
            let (_, metrics) = balancer.get("/metrics").await;
            if metrics.lines().any(|found| found.starts_with(&line)) {
                return;
            }
            looks.tick().await;
        }
    };
    soon(&line, counted).await;
}

#[tokio::test]
async fn a_page_for_prometheus_is_read_and_what_is_wrong_with_it_is_told() {
    let backends = Backends::start(1).await;
    let page = Page::start().await;
    let load = format!(
        "load = {{ kind = \"prometheus\", interval = \"1s\", timeout = \"200ms\", port = {}, \
         utilization = \"busy\", capacity = 8, requests = \"calls_total\" }}\n\
         policy = \"feedback\"\nbackends",
        page.addr.port()
    );
    let text = service("greeter.test", &backends.weighted(&[1.0]));
    let balancer = Balancer::start(&text.replace("backends", &load)).await;
    // It does not answer at first.
    until_polled(&balancer, "prometheus", "timeout").await;
    page.show("calls_total 10\n");
    until_polled(&balancer, "prometheus", "no_utilization").await;
    page.show("<html>hello</html>");
    until_polled(&balancer, "prometheus", "garbage").await;
    page.show(&"# a comment that is long and says nothing at all\n".repeat(42_000));
    until_polled(&balancer, "prometheus", "too_long").await;
    page.text
        .send_replace("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned());
    until_polled(&balancer, "prometheus", "bad_status").await;
    page.text.send_replace("\0\u{1}garbage".repeat(100));
    until_polled(&balancer, "prometheus", "failed").await;
    let none = "lookaside_load_reports_total{result=\"taken\"} 0";
    until_counted(&balancer, none).await;
    page.show("busy{pool=\"a\"} 2\nbusy{pool=\"b\"} 4\ncalls_total 1000\n");
    until_polled(&balancer, "prometheus", "answered").await;
    let taken = "lookaside_load_reports_total{result=\"taken\"} 1";
    until_counted(&balancer, taken).await;
    // The process began anew.
    page.show("busy 4\ncalls_total 3\n");
    until_polled(&balancer, "prometheus", "reset").await;
    page.show("busy NaN\ncalls_total 3\n");
    let utilization = format!(
        "lookaside_backend_utilization{{service=\"greeter.test\",backend=\"{}\"}} 0.5",
        backends.addr(0)
    );
    until_counted(&balancer, &utilization).await;
    balancer.stop().await;
}

struct Scores(AtomicI64);

#[tonic::async_trait]
impl LoadReport for Scores {
    async fn load(&self, _: Request<LoadRequest>) -> Result<Response<LoadResponse>, Status> {
        let score = self.0.load(Ordering::SeqCst);
        Ok(Response::new(LoadResponse { score }))
    }
}

#[tokio::test]
async fn a_score_of_bsm_is_utilization_by_the_capacity_that_the_operator_names() {
    let scores = Arc::new(Scores(AtomicI64::new(-1)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    let server = tonic::transport::Server::builder()
        .add_service(LoadReportServer::from_arc(Arc::clone(&scores)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tasks.spawn(async move { server.await.unwrap() });
    let silent = Backends::start(1).await;
    let load = "load = { kind = \"load_report\", interval = \"1s\", capacity = 200 }\n\
                policy = \"feedback\"\nbackends";
    let both = [(addr, 1.0), (silent.addr(0), 1.0)];
    let text = service("greeter.test", &both).replace("backends", load);
    let balancer = Balancer::start(&text).await;
    until_counted(
        &balancer,
        "lookaside_load_reports_total{result=\"negative\"} 1",
    )
    .await;
    until_polled(&balancer, "load_report", "unimplemented").await;
    scores.0.store(50, Ordering::SeqCst);
    let utilization = format!(
        "lookaside_backend_utilization{{service=\"greeter.test\",backend=\"{addr}\"}} 0.25"
    );
    until_counted(&balancer, &utilization).await;
    scores.0.store(i64::MAX, Ordering::SeqCst);
    until_counted(
        &balancer,
        "lookaside_load_reports_total{result=\"absurd\"} 1",
    )
    .await;
    // Asked once, on a connection that does not know it.
    let once = "lookaside_load_polls_total{kind=\"load_report\",result=\"unimplemented\"} 1";
    until_counted(&balancer, once).await;
    balancer.stop().await;
}
