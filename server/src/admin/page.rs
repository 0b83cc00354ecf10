//! The page of metrics, written at most once in so long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::telemetry::{Exposition, MetricsRegistry};

/// The page. To write one takes milliseconds with thousands of backends, so it is
/// done by a thread that may block, and once for all who ask together. Clones are
/// handles to the same.
#[derive(Debug, Clone)]
pub(super) struct MetricsPage {
    registry: MetricsRegistry,
    interval: Duration,
    /// One writes at a time: others wait for what it writes.
    writing: Arc<Semaphore>,
    /// A std mutex: held to look, and to put a page there.
    pages: Arc<Mutex<Pages>>,
}

#[derive(Debug, Default)]
struct Pages {
    text: Option<Page>,
    open_metrics: Option<Page>,
    /// How many were written.
    written: u64,
}

#[derive(Debug)]
struct Page {
    /// When its writing began.
    at: Instant,
    bytes: Bytes,
}

impl MetricsPage {
    /// One that is not written again before it is `interval` old: who reads meanwhile
    /// gets the same.
    pub(super) fn new(registry: MetricsRegistry, interval: Duration) -> Self {
        Self {
            registry,
            interval,
            writing: Arc::new(Semaphore::new(1)),
            pages: Arc::default(),
        }
    }

    /// The page in this format. `None` if it cannot be written, which is when the
    /// runtime ends.
    pub(super) async fn get(&self, exposition: Exposition) -> Option<Bytes> {
        let _one = self.writing.acquire().await.ok()?;
        if let Some(page) = self.pages().of(exposition)
            && page.at.elapsed() < self.interval
        {
            return Some(page.bytes.clone());
        }
        let at = Instant::now();
        let registry = self.registry.clone();
        let bytes = spawn_blocking(move || Bytes::from(registry.encode(exposition))).await;
        let bytes = bytes.ok()?;
        let mut pages = self.pages();
        pages.written += 1;
        *pages.of(exposition) = Some(Page {
            at,
            bytes: bytes.clone(),
        });
        Some(bytes)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn of(&mut self, exposition: Exposition) -> &mut Option<Page> {
        match exposition {
            Exposition::Text => &mut self.text,
            Exposition::OpenMetrics => &mut self.open_metrics,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    const KEPT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_asks_together_gets_one_page_and_a_later_one_is_new() {
        let registry = MetricsRegistry::default();
        let counter: Counter = registry.register(|registry| {
            let counter = Counter::default();
            registry.register("asked", "Asked", counter.clone());
            counter
        });
        let page = MetricsPage::new(registry, KEPT);
        let has = async |line: &str| {
            let page = page.get(Exposition::Text).await.unwrap();
            String::from_utf8_lossy(&page).contains(line)
        };
        let all = join_all((0..50).map(|_| page.get(Exposition::Text))).await;
        assert!(all.iter().all(|one| *one == all[0] && one.is_some()));
        assert_eq!(page.pages().written, 1);
        counter.inc();
        assert!(has("lookaside_asked_total 0").await);
        tokio::time::advance(KEPT).await;
        assert!(has("lookaside_asked_total 1").await);
        assert_eq!(page.pages().written, 2);
    }
}
