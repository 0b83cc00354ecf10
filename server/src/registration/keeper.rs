//! The task that tells the catalogue who is registered, ends leases, and looks where
//! a stream broke off.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Shared;
use super::table::{Change, StreamState, Suspect};
use crate::catalogue::{BackendEvent, Catalogue};
use crate::subchannel::{NotOpened, Permits, is_kept, open};
use crate::wait::until;
use lookaside_core::model::{BackendAddr, ServiceName};
use lookaside_core::plan::SourceKind;

/// A host that is there takes or refuses a connection in less.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// What is left of a dead process is closed in less, on a busy machine too. Longer,
/// and looks at thousands who are there would hold up the one at who is not.
const CLOSING: Duration = Duration::from_millis(200);

/// Probes at one time: the end of a rack is the end of many streams.
const PROBES: usize = 256;

/// Between two looks there is at least this long, and this many times what the
/// last one took: when 10 000 register at once, telling the catalogue of each alone
/// would take all the time there is.
const PAUSE: (Duration, u32) = (Duration::from_millis(10), 3);

/// Runs until `end`. From `draining` on nothing is told any more: streams end
/// then because the balancer does, and that says nothing about backends.
pub(super) async fn run(shared: Arc<Shared>, draining: CancellationToken, end: CancellationToken) {
    let mut probes: JoinSet<(Suspect, bool)> = JoinSet::new();
    let at_once = Arc::new(Semaphore::new(PROBES));
    loop {
        let now = Instant::now();
        let (suspects, next) = keep(&shared, now);
        for suspect in suspects {
            let (at_once, permits) = (Arc::clone(&at_once), shared.permits.clone());
            probes.spawn(async move {
                let _one = at_once.acquire().await;
                (suspect, is_refused(suspect, &permits).await)
            });
        }
        let rested = Instant::now() + PAUSE.0.max(now.elapsed() * PAUSE.1);
        tokio::select! {
            () = draining.cancelled() => break,
            () = shared.changed.notified() => {}
            Some(Ok((suspect, refused))) = probes.join_next() => {
                if refused {
                    shared.table().gone(suspect);
                } else {
                    debug!(backend = %suspect.addr, "its stream broke off, but it may be there");
                }
            }
            () = until(next) => {}
        }
        tokio::select! {
            () = draining.cancelled() => break,
            () = sleep_until(rested) => {}
        }
    }
    probes.shutdown().await;
    end.cancelled().await;
}

/// Ends leases and tells the catalogue what changed; whom to probe, and when to look again
/// though nothing happens.
pub(super) fn keep(shared: &Shared, now: Instant) -> (Vec<Suspect>, Option<Instant>) {
    let (changes, suspects, ended, next) = {
        let mut table = shared.table();
        table.expire(now);
        (
            table.changes(now),
            table.take_suspects(),
            table.take_ended(),
            table.next(now),
        )
    };
    note(shared, "expired", BackendEvent::Expired, &ended.expired);
    note(
        shared,
        "probe_refused",
        BackendEvent::Closed,
        &ended.refused,
    );
    for change in changes {
        tell(&shared.catalogue, change);
    }
    (suspects, next)
}

/// Counts and logs registrations that ended.
fn note(
    shared: &Shared,
    reason: &'static str,
    event: BackendEvent,
    ended: &[(ServiceName, BackendAddr)],
) {
    shared.metrics.ended(reason, ended.len() as u64);
    for (service, backend) in ended {
        let log = shared.catalogue.backend_log();
        log.note(service, *backend, event, "");
    }
}

fn tell(catalogue: &Catalogue, change: Change) {
    let Change {
        service,
        contribution,
        gone,
        states,
    } = change;
    catalogue.observe(&service, SourceKind::Registration, contribution, &gone);
    // Where health is checked, that says more than a connection to the port: it is
    // checked at once, and says itself when the doubt is over.
    let checked = catalogue
        .get(service.as_str())
        .is_none_or(|service| service.settings().health_checks);
    for (addr, state) in states {
        match (checked, state) {
            (true, StreamState::Disconnected) => catalogue.suspect(&service, addr),
            (true, StreamState::Connected) => {}
            (false, state) => {
                let disconnected = state == StreamState::Disconnected;
                catalogue.set_suspect(&service, addr, disconnected);
            }
        }
    }
}

/// Whether nobody listens there any more. No answer at all says less: it may be
/// us who cannot be heard, or cannot ask.
async fn is_refused(suspect: Suspect, permits: &Permits) -> bool {
    match open(suspect.addr.socket_addr(), PROBE_TIMEOUT, permits).await {
        Ok(socket) => !is_kept(&socket, CLOSING).await,
        Err(not_opened) => not_opened == NotOpened::Refused,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_closes_a_connection_at_once_is_gone_and_who_waits_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = BackendAddr::new(listener.local_addr().unwrap()).unwrap();
        let suspect = Suspect { addr, owner: 0 };
        let permits = Permits::default();
        assert!(!is_refused(suspect, &permits).await);

        let (mut first, _) = listener.accept().await.unwrap();
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
        let dying = async {
            let (taken, _) = listener.accept().await.unwrap();
            drop((taken, listener));
        };
        assert!(tokio::join!(is_refused(suspect, &permits), dying).0);
        assert!(is_refused(suspect, &permits).await);
    }
}
