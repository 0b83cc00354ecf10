//! Checks by TCP: whether somebody listens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lookaside_client::backoff::jittered;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::findings::Findings;
use super::metrics::HealthMetrics;
use super::probing::Probing;
use super::tracker::{Finding, HealthTracker};
use crate::subchannel::{NotOpened, Permits, at_most_5000_a_second, is_kept, open};
use lookaside_core::model::BackendAddr;
use lookaside_core::plan::HealthFields;

/// Who is out is looked at again after the first, later after the second at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Growth of the pause, and the share by which it may be longer or shorter.
const GROWTH: f64 = 1.6;
const JITTER: f64 = 0.2;

/// The first pause of a look: what dies may take a connection and hang up on it, and
/// refuse the next.
const AGAIN: Duration = Duration::from_millis(30);

/// Who is suspected and takes no connection so often in a row is out: something of it
/// broke, and neither could a client reach it.
const SILENT: u32 = 3;

/// A suspect that is there takes or refuses a connection in less.
const PATIENCE: Duration = Duration::from_millis(500);

/// A process that was killed is gone for good after that.
const MOMENT: Duration = Duration::from_millis(20);

/// Checks one backend until it is dropped.
pub(super) async fn check(mut probing: Probing, target: SocketAddr, permits: Permits) {
    let first = probing.first_pause().min(PAUSE.1);
    // A single one that comes need not wait, but many that come together do.
    let checks = probing.pace.checks();
    sleep(first.min(at_most_5000_a_second(Duration::ZERO, checks))).await;
    let mut out = PAUSE.0;
    loop {
        match open(target, probing.config.timeout, &permits).await {
            Ok(_) => probing.found(Finding::Good, ""),
            Err(NotOpened::Refused) => {
                probing.found(Finding::Refused, &NotOpened::Refused.to_string());
            }
            Err(NotOpened::Failed(reason)) => probing.found(Finding::Timeout, &reason),
            Err(NotOpened::Late) => probing.found(Finding::Late, ""),
            Err(NotOpened::OwnFault(_)) => probing.found(Finding::OwnFault, ""),
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
/// a connection. While it refuses them, or takes none again and again, it is out.
/// Returns whom it looked at.
pub(super) async fn look(
    findings: Arc<Findings>,
    suspected: Arc<Notify>,
    permits: Permits,
    metrics: HealthMetrics,
    looks: Arc<AtomicUsize>,
) -> BackendAddr {
    let mut rng = fastrand::Rng::new();
    let backend = findings.backend();
    let mut judge = HealthTracker::new(SILENT, 1);
    judge.found(Finding::Doubt);
    let mut pause = AGAIN;
    loop {
        let (found, why) = match open(backend.socket_addr(), PATIENCE, &permits).await {
            Ok(socket) if is_kept(&socket, MOMENT).await => {
                metrics.found("suspect", Finding::Good);
                findings.close(HealthFields::default(), "");
                return backend;
            }
            Ok(_) => (Finding::Failed, "it hangs up".into()),
            Err(NotOpened::Failed(reason)) => (Finding::Timeout, reason),
            Err(NotOpened::Refused) => (Finding::Refused, NotOpened::Refused.to_string().into()),
            Err(NotOpened::Late) => (Finding::Late, "".into()),
            Err(NotOpened::OwnFault(_)) => (Finding::OwnFault, "".into()),
        };
        metrics.found("suspect", found);
        findings.tell(judge.found(found), &why);
        let together = looks.load(Ordering::Relaxed);
        let rest = jittered(at_most_5000_a_second(pause, together), JITTER, &mut rng);
        // However often it is suspected.
        let hurried = async {
            sleep(PAUSE.0).await;
            suspected.notified().await;
        };
        if timeout(rest, hurried).await.is_ok() {
            pause = PAUSE.0;
        }
        let longest = at_most_5000_a_second(PAUSE.1, together);
        pause = pause.mul_f64(GROWTH).min(longest);
    }
}
