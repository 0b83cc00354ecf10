//! What is counted, through the layer, on a paused clock.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use lookaside_proto::orca_service_v3::OrcaLoadReportRequest;
use lookaside_proto::orca_service_v3::open_rca_service_server::OpenRcaService as _;
use tokio::sync::mpsc;
use tokio::time::advance;
use tokio_stream::StreamExt as _;
use tonic::Status;
use tower::{Layer as _, Service as _, service_fn};

use super::*;

const PATH: &str = "/helloworld.Greeter/SayHello";

/// A response body that a test writes frame by frame; dropping the sender ends
/// it.
struct Written(mpsc::UnboundedReceiver<Frame<Bytes>>);

type Writer = mpsc::UnboundedSender<Frame<Bytes>>;

impl Body for Written {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

fn load() -> Load {
    Load::new(Utilization::InFlight { limit: 4.0 })
}

fn request(path: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri(path);
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/grpc+proto");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn trailers(code: Code) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    Status::new(code, "").add_header(&mut trailers).unwrap();
    trailers
}

/// A call that has begun to answer, and the pen to write the answer with.
async fn begin(
    load: &Load,
    path: &str,
    headers: &[(&'static str, &str)],
) -> (CountedBody<Written>, Writer) {
    let (pen, paper) = mpsc::unbounded_channel();
    let mut paper = Some(paper);
    let inner = service_fn(move |_: Request<()>| {
        let body = Written(paper.take().unwrap());
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let mut service = load.layer().layer(inner);
    let response = service.call(request(path, headers)).await.unwrap();
    (response.into_body(), pen)
}

/// A call from beginning to end, with a status in trailers; returns those.
async fn call(load: &Load, headers: &[(&'static str, &str)], code: Code) -> HeaderMap {
    let (body, pen) = begin(load, PATH, headers).await;
    pen.send(Frame::data(Bytes::from_static(b"message")))
        .unwrap();
    pen.send(Frame::trailers(trailers(code))).unwrap();
    drop(pen);
    let collected = body.collect().await.unwrap();
    collected.trailers().unwrap().clone()
}

/// Calls under way, ended, and errors.
fn counts(load: &Load) -> (u64, u64, u64) {
    let totals = load.0.counters.totals(load.now()).unwrap();
    (load.in_flight(), totals.ended, totals.errors)
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_its_trailers() {
    let load = load();
    let (mut body, pen) = begin(&load, PATH, &[]).await;
    pen.send(Frame::data(Bytes::from_static(b"message")))
        .unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(counts(&load), (1, 0, 0));
    pen.send(Frame::trailers(trailers(Code::Ok))).unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(counts(&load), (0, 1, 0));
    drop(body);
    assert_eq!(counts(&load), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_code_in_the_trailers_says_whether_it_was_an_error() {
    let load = load();
    for code in [Code::Ok, Code::NotFound, Code::Cancelled, Code::Aborted] {
        call(&load, &[], code).await;
    }
    assert_eq!(counts(&load), (0, 4, 0));
    for code in [Code::Internal, Code::Unavailable, Code::ResourceExhausted] {
        call(&load, &[], code).await;
    }
    assert_eq!(counts(&load), (0, 7, 3));
}

#[tokio::test(start_paused = true)]
async fn a_response_of_headers_alone_ends_there() {
    let load = load();
    let inner = service_fn(|_: Request<()>| async {
        let response: Response<tonic::body::Body> = Status::unavailable("no").into_http();
        Ok::<_, Infallible>(response)
    });
    let mut service = load.layer().layer(inner);
    let _response = service.call(request(PATH, &[])).await.unwrap();
    assert_eq!(counts(&load), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_taken_back_is_no_error() {
    let load = load();
    let (body, _pen) = begin(&load, PATH, &[]).await;
    drop(body);
    assert_eq!(counts(&load), (0, 1, 0));

    let inner = service_fn(|_: Request<()>| {
        std::future::pending::<Result<Response<Written>, Infallible>>()
    });
    let mut answer = Box::pin(load.layer().layer(inner).call(request(PATH, &[])));
    assert!(answer.as_mut().now_or_never().is_none());
    assert_eq!(counts(&load), (1, 1, 0));
    drop(answer);
    assert_eq!(counts(&load), (0, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_taken_back_at_its_deadline_is_an_error() {
    let load = load();
    let (early, _pen) = begin(&load, PATH, &[("grpc-timeout", "200m")]).await;
    let (late, _pen) = begin(&load, PATH, &[("grpc-timeout", "100m")]).await;
    // The caller's clock began some milliseconds before.
    advance(Duration::from_millis(95)).await;
    drop(early);
    assert_eq!(counts(&load), (1, 1, 0));
    drop(late);
    assert_eq!(counts(&load), (0, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_server_cancels_at_its_deadline_is_an_error() {
    let load = load();
    let timeout = [("grpc-timeout", "100m")];
    call(&load, &timeout, Code::Cancelled).await;
    assert_eq!(counts(&load), (0, 1, 0));
    let (mut body, pen) = begin(&load, PATH, &timeout).await;
    advance(Duration::from_millis(100)).await;
    pen.send(Frame::trailers(trailers(Code::Cancelled)))
        .unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(counts(&load), (0, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_is_an_error() {
    let load = load();
    let (mut body, pen) = begin(&load, PATH, &[]).await;
    drop(pen);
    assert!(body.frame().await.is_none());
    assert_eq!(counts(&load), (0, 1, 1));

    let inner = service_fn(|_: Request<()>| async { Err::<Response<Written>, _>("broken") });
    let failed = load.layer().layer(inner).call(request(PATH, &[])).await;
    assert!(failed.is_err());
    assert_eq!(counts(&load), (0, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn grpcs_own_services_and_those_you_name_are_not_counted() {
    let load = Load::builder(Utilization::Set)
        .uncounted("/my.Admin/")
        .build();
    for path in [
        "/grpc.health.v1.Health/Watch",
        "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics",
        "/my.Admin/Dump",
    ] {
        let _call = begin(&load, path, &[]).await;
        assert_eq!(counts(&load), (0, 0, 0), "{path}");
    }
    let _call = begin(&load, "/my.AdminToo/Dump", &[]).await;
    assert_eq!(counts(&load), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_call_of_grpc_is_not_counted() {
    let load = load();
    for kind in ["text/html", "application/json", "application/grp", ""] {
        // A page of unknown length: it ends without trailers.
        let (body, pen) = begin(&load, "/metrics", &[("content-type", kind)]).await;
        drop(pen);
        body.collect().await.unwrap();
        assert_eq!(counts(&load), (0, 0, 0), "{kind}");
    }
    for kind in [
        "application/grpc",
        "application/grpc+json",
        "application/grpc;x=y",
    ] {
        let headers = [("content-type", kind)];
        call(&load, &headers, Code::Ok).await;
    }
    assert_eq!(counts(&load), (0, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_an_error_can_be_chosen() {
    let load = Load::builder(Utilization::Set)
        .errors(|code| code == Code::NotFound)
        .build();
    call(&load, &[], Code::NotFound).await;
    call(&load, &[], Code::Internal).await;
    assert_eq!(counts(&load), (0, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn in_flight_utilization_is_the_average_over_the_window() {
    let load = load();
    let mut window = load.window();
    let (one, _pen) = begin(&load, PATH, &[]).await;
    advance(Duration::from_secs(1)).await;
    let (two, _pen) = begin(&load, PATH, &[]).await;
    advance(Duration::from_secs(1)).await;
    drop(one);
    let report = load.report(&mut window);
    assert_eq!(report.window, Duration::from_secs(2));
    // One call for two seconds, another for the second of them.
    assert_eq!((report.in_flight, report.qps), (1.5, 0.5));
    assert_eq!(report.utilization, Some(1.5 / 4.0));

    advance(Duration::from_secs(1)).await;
    drop(two);
    advance(Duration::from_secs(1)).await;
    assert_eq!(load.report(&mut window).in_flight, 0.5);
}

#[tokio::test(start_paused = true)]
async fn readers_of_different_intervals_do_not_disturb_each_other() {
    let load = load();
    let (mut often, mut seldom) = (load.window(), load.window());
    let mut seen = 0.0;
    for _ in 0..10 {
        call(&load, &[], Code::Ok).await;
        advance(Duration::from_secs(1)).await;
        seen += load.report(&mut often).qps;
    }
    assert_eq!(seen, 10.0);
    assert_eq!(load.report(&mut seldom).qps, 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_the_application_says_is_reported_and_nonsense_is_not() {
    let load = Load::new(Utilization::Set);
    load.set_utilization(1.25);
    load.set_memory(0.5);
    load.set_resource("pool", 0.75);
    load.set_metric("queue", -3.0);
    load.set_metric("gone", 1.0);
    load.unset("gone");
    for nonsense in [f64::NAN, f64::INFINITY, -1.0] {
        load.set_utilization(nonsense);
        load.set_memory(nonsense);
        load.set_resource("pool", nonsense);
    }
    load.set_metric("queue", f64::NAN);
    advance(Duration::from_secs(2)).await;
    let orca = load.recent().to_orca();
    assert_eq!(orca.application_utilization, 1.25);
    assert_eq!(orca.mem_utilization, 0.5);
    assert_eq!(orca.utilization, [("pool".to_owned(), 0.75)].into());
    assert_eq!(orca.named_metrics, [("queue".to_owned(), -3.0)].into());
}

#[tokio::test(start_paused = true)]
async fn trailers_carry_a_report_if_the_call_asks_or_always() {
    let asks: &[(&str, &str)] = &[("endpoint-load-metrics-format", "BIN")];
    for (trailers, asking, not_asking) in [
        (Trailers::OnRequest, true, false),
        (Trailers::Always, true, true),
        (Trailers::Never, false, false),
    ] {
        let load = Load::builder(Utilization::Set).trailers(trailers).build();
        load.set_utilization(0.5);
        advance(Duration::from_secs(2)).await;
        for (headers, expected) in [(asks, asking), (&[][..], not_asking)] {
            let found = call(&load, headers, Code::Ok).await;
            let metadata = MetadataMap::from_headers(found);
            let report = metadata.get_bin(ENDPOINT_LOAD_METRICS_KEY);
            let report = report.map(|r| OrcaLoadReport::decode(&*r.to_bytes().unwrap()).unwrap());
            let found = report.map(|report| report.application_utilization);
            assert_eq!(found, expected.then_some(0.5), "{trailers:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_idle_when_no_call_is_under_way_and_none_comes() {
    let load = load();
    let quiet = Duration::from_millis(200);
    let (first, _pen) = begin(&load, PATH, &[]).await;
    let idle = tokio::spawn({
        let load = load.clone();
        async move { load.idle(quiet).await }
    });
    advance(Duration::from_secs(60)).await;
    assert!(!idle.is_finished());
    drop(first);
    advance(Duration::from_millis(100)).await;
    // One comes late and is quick: the quiet begins anew.
    call(&load, &[], Code::Ok).await;
    tokio::task::yield_now().await;
    assert!(!idle.is_finished());
    idle.await.unwrap();
    assert_eq!(load.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn orca_reports_at_once_then_at_the_interval_asked_and_none_after_the_end() {
    let load = load();
    let orca = Orca::new(load.clone(), Duration::from_secs(1));
    let asked = OrcaLoadReportRequest {
        report_interval: Some(prost_types::Duration {
            seconds: 5,
            nanos: 0,
        }),
        ..OrcaLoadReportRequest::default()
    };
    let reports = orca.stream_core_metrics(tonic::Request::new(asked)).await;
    let mut reports = reports.unwrap().into_inner();
    reports.next().await.unwrap().unwrap();
    let begun = Instant::now();
    for _ in 0..20 {
        call(&load, &[], Code::Ok).await;
    }
    let report = reports.next().await.unwrap().unwrap();
    let waited = begun.elapsed().as_secs_f64();
    assert!((4.4..=5.6).contains(&waited), "{waited}");
    assert!((report.rps_fractional * waited - 20.0).abs() < 0.01);

    let (end, ()) = tokio::join!(reports.next(), async { load.close() });
    assert_eq!(end.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(reports.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_from_many_threads_are_all_counted() {
    let load = load();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..16 {
        let load = load.clone();
        callers.spawn(async move {
            for turn in 0..200 {
                let code = if (caller + turn) % 4 == 0 {
                    Code::Internal
                } else {
                    Code::Ok
                };
                call(&load, &[], code).await;
                // Ends on whatever thread it gets.
                tokio::task::yield_now().await;
            }
        });
    }
    callers.join_all().await;
    assert_eq!(counts(&load), (0, 3200, 800));
}
