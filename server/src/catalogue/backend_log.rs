//! What happens to backends, for the log: of a service, in one moment, one line for
//! all to whom the same happens. A rack that fails is a line, not a thousand.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use lookaside_core::model::{BackendAddr, ServiceName};

/// A line waits so long for what goes with it.
const MOMENT: Duration = Duration::from_millis(100);

/// And so long after the lines before it.
const PAUSE: Duration = Duration::from_secs(1);

/// So many backends are named in a line; of the others it says how many.
const NAMED: usize = 5;

/// What can happen to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendEvent {
    /// It registered.
    Registered,
    /// Another instance registered at its address.
    Superseded,
    /// It asked for no new calls.
    Drains,
    /// It said that it goes.
    Left,
    /// Nothing was heard from it for a lease.
    Expired,
    /// Its stream broke off, and its port is closed.
    Closed,
    /// Its checks fail.
    Unhealthy,
    /// Its checks pass again.
    Healthy,
}

/// Collects events and logs them.
#[derive(Debug, Default)]
pub struct BackendLog {
    /// Bounded: an entry is of a few addresses, and services are configured.
    pending: Mutex<BTreeMap<(ServiceName, BackendEvent), Pending>>,
    news: Notify,
}

#[derive(Debug)]
struct Pending {
    first: Vec<BackendAddr>,
    count: usize,
    why: String,
    /// Whether there are other reasons.
    others: bool,
    /// Where it stands among the lines: what ends something comes behind it.
    order: usize,
}

impl BackendLog {
    /// Something happened to a backend of a service; `why` may be empty.
    pub fn note(
        &self,
        service: &ServiceName,
        backend: BackendAddr,
        event: BackendEvent,
        why: &str,
    ) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let order = pending.len();
        let entry = pending.entry((service.clone(), event));
        let entry = entry.or_insert_with(|| Pending {
            first: Vec::new(),
            count: 0,
            why: why.to_owned(),
            others: false,
            order,
        });
        entry.count += 1;
        entry.others |= entry.why != why;
        if entry.first.len() < NAMED {
            entry.first.push(backend);
        }
        drop(pending);
        self.news.notify_one();
    }

    /// Logs what is noted, a moment after the first of it, until `end`.
    pub async fn run(&self, end: CancellationToken) {
        let mut logged: Option<Instant> = None;
        let moments = async {
            loop {
                self.news.notified().await;
                let moment = Instant::now() + MOMENT;
                let rested = logged.map_or(moment, |logged| logged + PAUSE);
                sleep_until(moment.max(rested)).await;
                self.flush();
                logged = Some(Instant::now());
            }
        };
        end.run_until_cancelled(moments).await.unwrap_or(())
    }

    /// Logs what is noted.
    pub(super) fn flush(&self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = std::mem::take(&mut *pending);
        let mut lines: Vec<_> = pending.into_iter().collect();
        lines.sort_by_key(|(_, line)| line.order);
        for ((service, event), line) in lines {
            line.log(&service, event);
        }
    }
}

impl Pending {
    fn log(&self, service: &ServiceName, event: BackendEvent) {
        let backend = Named {
            first: &self.first,
            all: self.count,
        };
        let count = (self.count > 1).then_some(self.count);
        let others = if self.others {
            ", and other reasons"
        } else {
            ""
        };
        let why = (!self.why.is_empty()).then(|| format!("{}{others}", self.why));
        let what = event.text(self.count > 1);
        info!(%service, %backend, count, why, "{what}");
    }
}

impl BackendEvent {
    fn text(self, many: bool) -> &'static str {
        match (self, many) {
            (Self::Registered, false) => "backend registered",
            (Self::Registered, true) => "backends registered",
            (Self::Superseded, _) => "registered by another instance; the newer is listed",
            (Self::Drains, false) => "backend drains",
            (Self::Drains, true) => "backends drain",
            (Self::Left, false) => "backend left",
            (Self::Left, true) => "backends left",
            (Self::Expired, false) => "lease expired: the backend is silent",
            (Self::Expired, true) => "leases expired: the backends are silent",
            (Self::Closed, false) => "its stream broke off and its port is closed: backend removed",
            (Self::Closed, true) => {
                "their streams broke off and their ports are closed: backends removed"
            }
            (Self::Unhealthy, false) => "the backend is not healthy",
            (Self::Unhealthy, true) => "the backends are not healthy",
            (Self::Healthy, false) => "the backend is healthy again",
            (Self::Healthy, true) => "the backends are healthy again",
        }
    }
}

/// Backends by name, as far as a line can hold them.
pub(super) struct Named<'a> {
    first: &'a [BackendAddr],
    all: usize,
}

impl<'a> Named<'a> {
    pub(super) fn of(backends: &'a [BackendAddr]) -> Self {
        Self {
            first: backends,
            all: backends.len(),
        }
    }
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.first.iter().take(NAMED);
        for (index, addr) in named.clone().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{addr}")?;
        }
        match self.all.saturating_sub(named.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Lines;

    fn service() -> ServiceName {
        ServiceName::parse("greeter.test").unwrap()
    }

    fn addr(index: usize) -> BackendAddr {
        format!("10.0.{}.{}:80", index / 250, index % 250 + 1)
            .parse()
            .unwrap()
    }

    /// Runs with a log of its own.
    async fn logged(running: impl Future<Output = ()>) -> Vec<String> {
        use tracing::instrument::WithSubscriber as _;
        let lines = Lines::default();
        running.with_subscriber(lines.subscriber()).await;
        lines.text().lines().map(str::to_owned).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_backends_of_one_moment_are_one_line() {
        let log = BackendLog::default();
        let lines = logged(async {
            for index in 0..1000 {
                log.note(&service(), addr(index), BackendEvent::Unhealthy, "refused");
            }
            log.note(&service(), addr(7), BackendEvent::Healthy, "");
            log.flush();
            log.flush();
        });
        let lines = lines.await;
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].contains("the backends are not healthy"),
            "{lines:?}"
        );
        assert!(lines[0].contains("10.0.0.5:80 and 995 more"), "{lines:?}");
        assert!(lines[0].contains("count=1000 why=\"refused\""), "{lines:?}");
        assert!(
            lines[1].contains("the backend is healthy again"),
            "{lines:?}"
        );
        assert!(lines[1].ends_with("backend=10.0.0.8:80"), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_backend_is_logged_in_a_moment_and_many_over_time_once_a_second() {
        let log = BackendLog::default();
        let lines = logged(async {
            let end = CancellationToken::new();
            let noting = async {
                for index in 0..300 {
                    log.note(&service(), addr(index), BackendEvent::Expired, "");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                tokio::time::sleep(PAUSE * 2).await;
                end.cancel();
            };
            tokio::join!(log.run(end.clone()), noting);
        });
        let lines = lines.await;
        assert!((4..=5).contains(&lines.len()), "{lines:?}");
        assert!(
            lines[0].contains("leases expired: the backends are silent"),
            "{lines:?}"
        );
    }
}
