//! Checks by TCP: whether somebody listens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lookaside_client::backoff::jittered;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::findings::Findings;
use super::judge::Found;
use super::metrics::HealthMetrics;
use super::probing::Probing;
use crate::model::BackendAddr;
use crate::plan::{HealthFields, Probe};
use crate::subchannel::{NotOpened, Seats, at_most_5000_a_second, is_kept, open};

/// Who is out is looked at again after the first, later after the second at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Growth of the pause, and the share by which it may be longer or shorter.
const GROWTH: f64 = 1.6;
const JITTER: f64 = 0.2;

/// A suspect that is there takes or refuses a connection in less.
const PATIENCE: Duration = Duration::from_millis(500);

/// A process that was killed is gone for good after that.
const MOMENT: Duration = Duration::from_millis(20);

/// Checks one backend until it is dropped.
pub(super) async fn check(mut probing: Probing, target: SocketAddr, seats: Seats) {
    let first = probing.first_pause().min(PAUSE.1);
    // A single one that comes need not wait, but many that come together do.
    let checks = probing.pace.checks();
    sleep(first.min(at_most_5000_a_second(Duration::ZERO, checks))).await;
    let mut out = PAUSE.0;
    loop {
        match open(target, probing.config.timeout, &seats).await {
            Ok(_) => probing.found(Found::Good, ""),
            Err(NotOpened::Refused) => {
                probing.found(Found::Refused, &NotOpened::Refused.to_string());
            }
            Err(NotOpened::Failed(reason)) => probing.found(Found::Timeout, &reason),
            Err(NotOpened::Late) => probing.found(Found::Late, ""),
        }
        let usual = probing.pause();
        let pause = if probing.is_in() {
            out = PAUSE.0;
            usual
        } else {
            let pause = out.min(usual);
            out = out.mul_f64(GROWTH).min(PAUSE.1.max(probing.interval()));
            pause
        };
        probing.rest(pause).await;
    }
}

/// Looks at a backend that nobody checks, because something broke: until it takes
/// a connection. While it refuses them it is out. Returns whom it looked at.
pub(super) async fn look(
    findings: Arc<Findings>,
    suspected: Arc<Notify>,
    seats: Seats,
    metrics: HealthMetrics,
    looks: Arc<AtomicUsize>,
) -> BackendAddr {
    let mut rng = fastrand::Rng::new();
    let backend = findings.backend();
    let mut pause = PAUSE.0;
    loop {
        match open(backend.socket_addr(), PATIENCE, &seats).await {
            Ok(socket) if is_kept(&socket, MOMENT).await => {
                metrics.found("suspect", Found::Good);
                findings.close(HealthFields::default(), "");
                return backend;
            }
            Ok(_) => metrics.found("suspect", Found::Failed),
            Err(NotOpened::Refused) => {
                metrics.found("suspect", Found::Refused);
                let refused = HealthFields {
                    probe: Probe::Refused,
                    suspect: false,
                };
                findings.tell(refused, &NotOpened::Refused.to_string());
            }
            // It may be us who cannot be heard.
            Err(NotOpened::Failed(_)) => metrics.found("suspect", Found::Timeout),
            Err(NotOpened::Late) => metrics.found("suspect", Found::Late),
        }
        let rest = jittered(pause, JITTER, &mut rng);
        // However often it is suspected.
        let hurried = async {
            sleep(PAUSE.0).await;
            suspected.notified().await;
        };
        if timeout(rest, hurried).await.is_ok() {
            pause = PAUSE.0;
        }
        let longest = at_most_5000_a_second(PAUSE.1, looks.load(Ordering::Relaxed));
        pause = pause.mul_f64(GROWTH).min(longest);
    }
}
