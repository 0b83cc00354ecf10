//! Health and metrics over HTTP, on a port of their own.
//!
//! | path | answers |
//! |---|---|
//! | `/livez` | 200 while the process runs |
//! | `/readyz` | 200 once every service has had a list to send, 503 before that and from the start of a shutdown; services that are added later and have none yet are named, and change nothing |
//! | `/metrics` | every metric, in Prometheus' text format, or in OpenMetrics if `Accept` asks for it; written at most once a second |

mod connections;
mod metrics;
mod page;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::catalogue::{Catalogue, Readiness};
use crate::net::cannot_listen;
use crate::rollout::{Applied, Rollout};
use crate::telemetry::{Exposition, MetricsRegistry};
use lookaside_core::model::ServiceName;

pub use self::connections::AdminLimits;
pub use self::metrics::AdminMetrics;
use self::page::MetricsPage;

/// So many services are named in an answer; of the others it says how many.
const NAMED: usize = 20;

/// What a balancer without services answers that was started without `--allow-empty`.
const NO_SERVICES: &str = "no services: the configuration file has none; add a [[service]], or \
                           run `lookaside serve --allow-empty` to be ready without\n";

/// The admin port, bound and not served yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    addr: SocketAddr,
}

/// What the admin port tells of.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// The services.
    pub catalogue: Arc<Catalogue>,
    /// The configuration, and how far it is applied.
    pub rollout: Rollout,
    /// The metrics.
    pub metrics: MetricsRegistry,
    /// Cancelled when the balancer begins to shut down: no longer ready.
    pub draining: CancellationToken,
}

impl Admin {
    /// Binds the port.
    ///
    /// # Errors
    /// If the address cannot be bound; the error names it.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await;
        let listener = listener.map_err(|error| cannot_listen(addr, &error))?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves within `limits` until `stop`, whatever happens to single connections.
    pub async fn run(
        self,
        state: AdminState,
        limits: AdminLimits,
        metrics: AdminMetrics,
        stop: CancellationToken,
    ) {
        let page = MetricsPage::new(state.metrics.clone(), limits.metrics_interval);
        let pages = Router::new().route("/metrics", get(metrics_page));
        let routes = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .with_state(state)
            .merge(pages.with_state(page));
        connections::serve(self.listener, routes, limits, metrics, stop).await;
    }
}

async fn readyz(State(state): State<AdminState>) -> (StatusCode, String) {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
    if state.draining.is_cancelled() {
        return unready("shutting down\n".to_owned());
    }
    match state.catalogue.readiness() {
        Readiness::Unconfigured => unready(NO_SERVICES.to_owned()),
        Readiness::Starting(waiting) => {
            unready(format!("waiting for the sources of {}\n", named(&waiting)))
        }
        Readiness::Ready { warming } => {
            let mut page = "ok\n".to_owned();
            if !warming.is_empty() {
                page.push_str(&format!("warming: {}\n", named(&warming)));
            }
            page.push_str(&applied(&state.rollout));
            (StatusCode::OK, page)
        }
    }
}

/// How far the configuration is applied.
fn applied(rollout: &Rollout) -> String {
    let Applied { revision, since } = rollout.applied();
    let since = humantime::format_rfc3339_seconds(since);
    let pending = rollout.pending();
    if pending.is_empty() {
        return format!("configuration {revision} applied everywhere at {since}\n");
    }
    format!(
        "configuration {revision} applied everywhere at {since}; {} not applied yet by: {}\n",
        rollout.current().number,
        pending.join(", ")
    )
}

/// Services by name, as far as somebody would read them.
fn named(services: &[ServiceName]) -> String {
    let names: Vec<&str> = services
        .iter()
        .take(NAMED)
        .map(ServiceName::as_str)
        .collect();
    let names = names.join(", ");
    match services.len().saturating_sub(NAMED) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

async fn metrics_page(State(page): State<MetricsPage>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter();
    let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
    let exposition = Exposition::negotiate(&accept.join(","));
    match page.get(exposition).await {
        Some(page) => {
            let headers = [
                (header::CONTENT_TYPE, exposition.content_type()),
                (header::VARY, "accept"),
            ];
            (headers, page).into_response()
        }
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
