//! Health and metrics over HTTP, on a port of their own.
//!
//! | path | answers |
//! |---|---|
//! | `/livez` | 200 while the process runs |
//! | `/readyz` | 200 once every service has a list to send, 503 before that and from the start of a shutdown |
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

use crate::fleet::Fleet;
use crate::telemetry::MetricsRegistry;

/// Requests in progress at the end get this long to finish.
const CLOSE_AFTER: Duration = Duration::from_secs(1);

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
    /// If the address cannot be bound.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
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
    if !state.fleet.is_configured() {
        return unready("no configuration yet\n".to_owned());
    }
    let services = state.fleet.services();
    let waiting = services.iter().filter(|s| s.snapshot().is_none());
    let waiting: Vec<String> = waiting.map(|s| s.name().to_string()).collect();
    if waiting.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        unready(format!(
            "waiting for the sources of {}\n",
            waiting.join(", ")
        ))
    }
}

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, OPEN_METRICS)],
        state.metrics.encode(),
    )
}
