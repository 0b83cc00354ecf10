//! Health and metrics over HTTP, on a port of their own.
//!
//! | path | answers |
//! |---|---|
//! | `/livez` | 200 while the process runs |
//! | `/readyz` | 200 once every service has had a list to send, 503 before that and from the start of a shutdown; services that are added later and have none yet are named, and change nothing |
//! | `/metrics` | every metric, in OpenMetrics text |

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, Readiness};
use crate::model::ServiceName;
use crate::net::cannot_listen;
use crate::telemetry::MetricsRegistry;

/// Requests in progress at the end get this long to finish.
const CLOSE_AFTER: Duration = Duration::from_secs(1);

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
    pub fleet: Arc<Fleet>,
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

    /// Serves until `stop`.
    ///
    /// # Errors
    /// If accepting fails for good.
    pub async fn run(self, state: AdminState, stop: CancellationToken) -> io::Result<()> {
        let routes = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(state);
        let stopped = stop.clone();
        let server = axum::serve(self.listener, routes)
            .with_graceful_shutdown(async move { stopped.cancelled().await });
        tokio::select! {
            served = server => served,
            // A scraper that keeps its connection open must not hold us up.
            () = async { stop.cancelled().await; tokio::time::sleep(CLOSE_AFTER).await } => Ok(()),
        }
    }
}

async fn readyz(State(state): State<AdminState>) -> (StatusCode, String) {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
    if state.draining.is_cancelled() {
        return unready("shutting down\n".to_owned());
    }
    match state.fleet.readiness() {
        Readiness::Unconfigured => unready(NO_SERVICES.to_owned()),
        Readiness::Starting(waiting) => {
            unready(format!("waiting for the sources of {}\n", named(&waiting)))
        }
        Readiness::Ready { warming } if warming.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        Readiness::Ready { warming } => (
            StatusCode::OK,
            format!("ok\nwarming: {}\n", named(&warming)),
        ),
    }
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

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, OPEN_METRICS)],
        state.metrics.encode(),
    )
}
