//! What services learned, beyond the life of one publisher: it is handed to a
//! service that begins, and asked of those that run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use lookaside_core::model::ServiceName;
use lookaside_core::plan::SavedPlan;

/// What was learned longer ago is of another fleet by now, and is forgotten.
pub const LONGEST_MEMORY: Duration = Duration::from_secs(86_400);

/// What a service had learned, and how long ago that was.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// It.
    pub plan: SavedPlan,
    age: Duration,
    since: Instant,
}

impl Remembered {
    /// What was saved `ago`.
    #[must_use]
    pub fn new(plan: SavedPlan, ago: Duration) -> Self {
        Self {
            plan,
            age: ago,
            since: Instant::now(),
        }
    }

    /// How long ago it was saved.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age.saturating_add(self.since.elapsed())
    }
}

/// What is remembered of services that do not run.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Names are the configuration's, of a day at most.
    kept: Mutex<BTreeMap<ServiceName, Remembered>>,
    learned: Notify,
}

impl Memory {
    pub(super) fn keep(&self, service: ServiceName, remembered: Remembered) {
        let mut kept = self.lock();
        kept.retain(|_, remembered| remembered.age() < LONGEST_MEMORY);
        kept.insert(service, remembered);
    }

    pub(super) fn take(&self, service: &ServiceName) -> Option<Remembered> {
        let remembered = self.lock().remove(service)?;
        (remembered.age() < LONGEST_MEMORY).then_some(remembered)
    }

    pub(super) fn all(&self) -> BTreeMap<ServiceName, Remembered> {
        let mut all = self.lock().clone();
        all.retain(|_, remembered| remembered.age() < LONGEST_MEMORY);
        all
    }

    /// Clients were told of weights that a service learned.
    pub(super) fn note_learned(&self) {
        self.learned.notify_one();
    }

    pub(super) async fn learned(&self) {
        self.learned.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Remembered>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a publisher, which alone has its service's state, is asked for it.
#[derive(Debug, Default)]
pub(super) struct SaveRequests {
    waiting: Mutex<Vec<oneshot::Sender<SavedPlan>>>,
    asked: Notify,
}

impl SaveRequests {
    /// What the service has learned; `None` if it does not learn, or its
    /// publisher is not there.
    pub(super) async fn ask(&self) -> Option<SavedPlan> {
        let (answer, answered) = oneshot::channel();
        self.lock().push(answer);
        self.asked.notify_one();
        answered.await.ok()
    }

    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Answers all who asked.
    pub(super) fn answer(&self, saved: impl Fn() -> Option<SavedPlan>) {
        let waiting = std::mem::take(&mut *self.lock());
        for asking in waiting {
            // Who does not wait any more needs no answer.
            if let Some(saved) = saved() {
                let _ = asking.send(saved);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<oneshot::Sender<SavedPlan>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
