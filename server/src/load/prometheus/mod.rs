//! Backends that show their metrics as a page for Prometheus, read like it does.
//!
//! A connection each time, which is closed behind the answer: pages are asked for
//! every few seconds, and a page's server is seldom the one of the calls.

mod page;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::uri::Authority;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use lookaside_client::backoff::jittered;
use lookaside_client::subchannel::Transport;
use lookaside_client::tls::Protocol;
use lookaside_proto::orca_v3::OrcaLoadReport;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use self::page::{Page, rate};
use super::target::LoadTarget;
use crate::config::PrometheusConfig;
use crate::subchannel::{Credential, NotOpened, Permits, open};
use lookaside_core::weights::ReportSource;

/// A longer page is none.
const MAX_PAGE: usize = 1 << 20;

/// Share of an interval by which it may be longer or shorter.
const JITTER: f64 = 0.1;

/// Where the page is.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) target: SocketAddr,
    /// What the backend is called there.
    pub(super) authority: String,
    /// TLS; plaintext if `None`.
    pub(super) tls: Option<Credential>,
    pub(super) config: PrometheusConfig,
}

/// Why there is no page.
#[derive(Debug)]
enum NoPage {
    Refused,
    Failed(String),
    Tls(String),
    Timeout,
    Late,
    OwnFault,
    Status(StatusCode),
    TooLong,
    Garbage,
}

impl NoPage {
    fn reason(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Failed(_) => "failed",
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::Late => "late",
            Self::OwnFault => "own_fault",
            Self::Status(_) => "bad_status",
            Self::TooLong => "too_long",
            Self::Garbage => "garbage",
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Refused => NotOpened::Refused.to_string(),
            Self::Failed(reason) | Self::Tls(reason) => reason.clone(),
            Self::Timeout => "it takes too long".to_owned(),
            Self::Late => NotOpened::Late.to_string(),
            // Logged once for all that cannot be asked.
            Self::OwnFault => String::new(),
            Self::Status(status) => format!("it answers {status}"),
            Self::TooLong => format!("it is longer than {MAX_PAGE} bytes"),
            Self::Garbage => "it is no page of metrics".to_owned(),
        }
    }
}

/// Reads a backend's page again and again. Never ends: there is no telling a page
/// that does not exist from one that does not exist yet.
pub(super) async fn scrape(
    asking: &LoadTarget,
    interval: Duration,
    site: Site,
    permits: &Permits,
) -> ! {
    let mut rng = fastrand::Rng::new();
    // A balancer that starts does not ask all backends at once.
    sleep(interval.min(Duration::from_secs(1)).mul_f64(rng.f64())).await;
    let mut before: Option<(Instant, Page)> = None;
    // What was logged last: once per change, not per page.
    let mut logged = "";
    loop {
        let now = Instant::now();
        let got = timeout(site.config.timeout, get(&site, permits)).await;
        let (outcome, why) = match got.unwrap_or(Err(NoPage::Timeout)) {
            Ok(page) => {
                let outcome = tell(asking, &site.config, before, (now, page));
                before = Some((now, page));
                let why = match outcome {
                    "no_utilization" => format!("it has no `{}`", site.config.utilization),
                    _ => String::new(),
                };
                (outcome, why)
            }
            Err(no_page) => {
                if let (NoPage::Refused, true) = (&no_page, logged != "refused") {
                    asking.suspect();
                }
                (no_page.reason(), no_page.text())
            }
        };
        asking.metrics.polled("prometheus", outcome);
        if !why.is_empty() && logged != outcome {
            info!(backend = %asking.backend, why, "its page of metrics does not say how busy it is");
        }
        logged = outcome;
        sleep(jittered(interval, JITTER, &mut rng)).await;
    }
}

/// Reports what a page says, beside the page before; returns what became of it.
fn tell(
    asking: &LoadTarget,
    config: &PrometheusConfig,
    before: Option<(Instant, Page)>,
    (at, page): (Instant, Page),
) -> &'static str {
    let Some(utilization) = page.utilization else {
        return "no_utilization";
    };
    let mut report = OrcaLoadReport {
        application_utilization: utilization / config.capacity,
        ..OrcaLoadReport::default()
    };
    if config.requests.is_some() {
        let Some((before_at, before)) = before else {
            return "first";
        };
        let seconds = (at - before_at).as_secs_f64();
        let requests = rate(before.requests, page.requests, seconds);
        let errors = rate(before.errors, page.errors, seconds);
        let (Some(requests), Some(errors)) = (requests, errors) else {
            return "reset";
        };
        report.rps_fractional = requests;
        report.eps = errors;
    }
    asking.report(ReportSource::Prometheus, &report);
    "answered"
}

async fn get(site: &Site, permits: &Permits) -> Result<Page, NoPage> {
    let failed = |error: hyper::Error| NoPage::Failed(error.to_string());
    let socket = open(site.target, site.config.timeout, permits).await;
    let socket = socket.map_err(|not_opened| match not_opened {
        NotOpened::Refused => NoPage::Refused,
        NotOpened::Failed(reason) => NoPage::Failed(reason.to_string()),
        NotOpened::Late => NoPage::Late,
        NotOpened::OwnFault(_) => NoPage::OwnFault,
    })?;
    let stream: Box<dyn Transport> = match &site.tls {
        None => Box::new(socket),
        Some(credential) => {
            // Its name in a certificate has no port.
            let name = site.authority.parse::<Authority>();
            let name = name.as_ref().map_or(&*site.authority, Authority::host);
            let shaken = credential.handshake(Protocol::Http1, name, socket).await;
            Box::new(shaken.map_err(NoPage::Tls)?)
        }
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let request = Request::get(&site.config.path)
        .header(HOST, &site.authority)
        .header(USER_AGENT, concat!("lookaside/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "text/plain;version=0.0.4")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| NoPage::Failed(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(NoPage::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_PAGE).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                NoPage::TooLong
            } else {
                NoPage::Failed(error.to_string())
            }
        })?;
        let body = body.to_bytes();
        let text = std::str::from_utf8(&body).map_err(|_| NoPage::Garbage)?;
        let page = Page::read(text, &site.config);
        if page.has_series {
            Ok(page)
        } else {
            Err(NoPage::Garbage)
        }
    };
    tokio::pin!(answer);
    tokio::select! {
        answered = &mut answer => answered,
        // The answer may be there whole when the connection ends.
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(failed(error)),
        },
    }
}
