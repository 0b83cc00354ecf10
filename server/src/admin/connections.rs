//! The connections of the admin port: few, and none for long without a request.
//!
//! Whoever holds connections here takes files that clients of the balancer need, and
//! must not keep a probe or a scraper out. So when there are as many as there may be,
//! the one that has asked for nothing for the longest makes room for the next.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::util::ServiceExt as _;
use tracing::warn;

use super::metrics::AdminMetrics;

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;

/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// That is logged once in so long.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// Requests in progress at the end get this long to finish.
const CLOSE_AFTER: Duration = Duration::from_secs(1);

/// What the clients of the admin port may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminLimits {
    /// Connections at one time, at least one.
    pub connections: usize,
    /// Time for the head of a request, the first or another on the same connection.
    pub head_timeout: Duration,
    /// Time from a request to the end of its answer.
    pub answer_timeout: Duration,
    /// The page of metrics is written at most once in so long.
    pub metrics_interval: Duration,
}

impl AdminLimits {
    /// So many connections; 20 s for a request, 60 s for its answer, and a page of
    /// metrics each second.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self {
            connections,
            head_timeout: Duration::from_secs(20),
            answer_timeout: Duration::from_secs(60),
            metrics_interval: Duration::from_secs(1),
        }
    }
}

/// What one connection does.
#[derive(Debug)]
struct Activity {
    began: Instant,
    /// Milliseconds from `began` to its last request, or to its own begin.
    asked: AtomicU64,
    answering: AtomicBool,
}

#[derive(Debug)]
struct Open {
    activity: Arc<Activity>,
    task: AbortHandle,
}

/// Serves `routes` within `limits`, until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: AdminLimits,
    metrics: AdminMetrics,
    stop: CancellationToken,
) {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    let mut open: Vec<Open> = Vec::new();
    let mut logged: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => {
                open.retain(|one| !one.task.is_finished());
                metrics.connections.set(count(open.len()));
                continue;
            }
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                if is_the_peers(&error) {
                    continue;
                }
                if logged.is_none_or(|last| last.elapsed() > LOG_PAUSE) {
                    logged = Some(Instant::now());
                    warn!(
                        %error,
                        "cannot accept connections to the admin port; if files have run out, \
                         raise `ulimit -n`"
                    );
                }
                sleep(PAUSE).await;
                continue;
            }
        };
        open.retain(|one| !one.task.is_finished());
        if open.len() >= limits.connections.max(1) {
            let idlest = open
                .iter()
                .enumerate()
                .min_by_key(|(_, one)| one.activity.rank());
            if let Some((index, _)) = idlest {
                open.swap_remove(index).task.abort();
                metrics.evicted.inc();
            }
        }
        let activity = Arc::new(Activity {
            began,
            asked: AtomicU64::new(0),
            answering: AtomicBool::new(false),
        });
        activity.asks();
        let connection = connection(
            socket,
            routes.clone(),
            limits,
            Arc::clone(&activity),
            stop.clone(),
        );
        open.push(Open {
            activity,
            task: tasks.spawn(connection),
        });
        metrics.connections.set(count(open.len()));
    }
    drop(listener);
    let ended = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(CLOSE_AFTER, ended).await;
    tasks.shutdown().await;
}

async fn connection(
    socket: TcpStream,
    routes: Router,
    limits: AdminLimits,
    activity: Arc<Activity>,
    stop: CancellationToken,
) {
    let service = service_fn(|request| {
        let (routes, activity) = (routes.clone(), Arc::clone(&activity));
        async move {
            let _answering = activity.answering();
            let response: Result<_, Infallible> = routes.oneshot(request).await;
            response
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    let mut serving = std::pin::pin!(serving);
    let stuck = async {
        // What waits for a request ends by itself, much sooner.
        while let Some(left) = limits.answer_timeout.checked_sub(activity.since_asked()) {
            sleep_until(Instant::now() + left + Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = serving.as_mut() => {}
        () = stuck => {}
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

impl Activity {
    /// It asks for something, or begins.
    fn asks(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.asked.store(millis, Ordering::Relaxed);
    }

    /// It asks, and is answered until this is dropped.
    fn answering(&self) -> Answering<'_> {
        self.asks();
        self.answering.store(true, Ordering::Relaxed);
        Answering(self)
    }

    fn since_asked(&self) -> Duration {
        let asked = Duration::from_millis(self.asked.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(asked)
    }

    /// The least of all makes room first.
    fn rank(&self) -> (bool, u64) {
        let answering = self.answering.load(Ordering::Relaxed);
        (answering, self.asked.load(Ordering::Relaxed))
    }
}

struct Answering<'a>(&'a Activity);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.answering.store(false, Ordering::Relaxed);
    }
}

/// Whether the connection was gone before it was accepted.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn count(open: usize) -> i64 {
    i64::try_from(open).unwrap_or(i64::MAX)
}
