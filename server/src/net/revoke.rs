//! Following the TLS files: what changed counts for new connections, and for those that
//! are open as far as their clients are judged by it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::sleep;
use tracing::{info, warn};

use super::connections::{Connections, Shown};
use super::metrics::{Closed, NetMetrics};
use super::tls::{Reload, TlsFiles};

/// How often the files are looked at.
const CHECK: Duration = Duration::from_secs(2);

/// Clients whose certificates are no longer good are sent away over this time: it may be
/// the file that is wrong, and then some are left when it is mended.
const SENT_AWAY_OVER: Duration = Duration::from_secs(3);

/// Time for a last word on a connection whose client is sent away.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Reloads when the files change, for ever. A bad change is logged once.
pub(super) async fn follow(files: &Arc<TlsFiles>, connections: &Connections, metrics: &NetMetrics) {
    let mut logged = String::new();
    let mut leaving = FuturesUnordered::new();
    loop {
        let mut reloaded = pin!(async {
            sleep(CHECK).await;
            files.remind();
            files.reload().await
        });
        let reloaded = loop {
            tokio::select! {
                reloaded = &mut reloaded => break reloaded,
                Some(()) = leaving.next() => {}
            }
        };
        match reloaded {
            Ok(Reload::Unchanged) => logged.clear(),
            Ok(reload) => {
                logged.clear();
                metrics.tls_reloaded(true);
                info!(cert = %files.cert(), "TLS files reloaded; new connections use them");
                if reload == Reload::ChangedTrust {
                    let shown = connections.shown();
                    let refused = shown.into_iter().filter(|shown| !is_good(files, shown));
                    let refused: Vec<_> = refused.collect();
                    if !refused.is_empty() {
                        warn!(
                            connections = refused.len(),
                            "clients whose certificates are no longer trusted are disconnected \
                             over {SENT_AWAY_OVER:?}"
                        );
                    }
                    leaving.extend(
                        refused
                            .into_iter()
                            .map(|shown| send_away(files, shown, metrics)),
                    );
                }
            }
            Err(error) => {
                let error = error.to_string();
                if logged != error {
                    metrics.tls_reloaded(false);
                    warn!(
                        error,
                        "changed TLS files cannot be used; the old ones stay in use"
                    );
                    logged = error;
                }
            }
        }
    }
}

/// Whether its client would be let in now.
pub(super) fn is_good(files: &TlsFiles, shown: &Shown) -> bool {
    let chain = shown.peer.certificates.as_deref().unwrap_or_default();
    files.trusts(chain, shown.at)
}

/// Ends a connection when its turn comes, unless its client is trusted again by then.
async fn send_away(files: &TlsFiles, shown: Shown, metrics: &NetMetrics) {
    sleep(SENT_AWAY_OVER.mul_f64(fastrand::f64())).await;
    if is_good(files, &shown) {
        return;
    }
    metrics.closed(Closed::Untrusted);
    // What it may by its certificate alone ends now.
    shown.peer.untrusted.cancel();
    shown.go_away();
    sleep(LAST_WORD).await;
    shown.peer.connection.cancel();
}
