//! The task that turns what is known of a service into snapshots.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error, info, warn};

use super::memory::{Memory, Remembered};
use super::metrics::FleetMetrics;
use super::service::Service;
use super::snapshot::Snapshot;
use super::subscribers::EndReason;
use crate::plan::{Pace, Plan, PlanState, Publish, SavedPlan, plan};

/// A service publishes what it knows this long after it began, even if a
/// source has not answered.
pub(super) const READY_DEADLINE: Duration = Duration::from_secs(10);

/// A stream that has not taken a publish for this long loses its connection.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// How often stalled streams are looked for.
const STALL_CHECK: Duration = Duration::from_secs(10);

/// How often it is looked whether clients are elsewhere than lists are made for.
const CLIENTS_CHECK: Duration = Duration::from_secs(5);

/// Streams of a removed service end spread over this time.
const REMOVAL_JITTER: Duration = Duration::from_secs(2);

/// Pause before a failed publisher is started again; doubles up to the last.
const RESTART_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Runs the publisher of a service until the service is retired, and starts it
/// again if it fails; meanwhile the service keeps its snapshot. What the service
/// learned it takes from `memory`, and leaves there when it is retired.
pub(super) async fn supervise(service: Arc<Service>, memory: Arc<Memory>, metrics: FleetMetrics) {
    let failed = |pause: Duration| {
        metrics.publisher_failed(service.name());
        error!(
            service = %service.name(),
            restart_in = ?pause,
            "the publisher failed; clients keep the list they have"
        );
    };
    restart_on_panic(|| run(&service, &memory, &metrics), failed).await;
    metrics.forget(service.name());
}

/// Runs a task to its end; after a panic again, after a pause that doubles.
async fn restart_on_panic<F: Future<Output = ()>>(
    mut task: impl FnMut() -> F,
    failed: impl Fn(Duration),
) {
    let (mut pause, longest) = RESTART_BACKOFF;
    while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
        failed(pause);
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

async fn run(service: &Service, memory: &Memory, metrics: &FleetMetrics) {
    let mut state = begin(service, memory);
    let mut pace = Pace::default();
    let mut weights = metrics.weights(service.name());
    let mut candidate: Option<Plan> = None;
    let ready_by = service.started() + READY_DEADLINE;
    let mut stall_check = tokio::time::interval(STALL_CHECK);
    let mut clients_check = tokio::time::interval(CLIENTS_CHECK);

    // A restarted publisher must not miss what changed while it was away.
    let mut dirty = true;
    loop {
        let (all, any) = service.answered();
        let ready = service.snapshot().is_some() || all || (any && Instant::now() >= ready_by);
        // Weights move though nothing else does.
        let due = state.next(&service.settings());
        dirty |= due.is_some_and(|due| due <= service.age());
        if dirty && ready {
            dirty = false;
            candidate = consider(service, &mut state, &mut pace);
            weights.update(&state, &service.settings(), service.age());
        }
        let wake_at = match pace.decide(service.age()) {
            Some(Publish::Now) => {
                if let Some(plan) = candidate.take() {
                    state.published(&plan, service.age());
                    publish(service, plan, metrics);
                    if state.learns(&service.settings()) {
                        memory.note_learned();
                    }
                }
                pace.published(service.age());
                None
            }
            Some(Publish::At(at)) => Some(service.started() + at),
            None if !ready && any => Some(ready_by),
            None => None,
        };
        // Before it is ready nothing can be done about what is due.
        let due = state.next(&service.settings()).filter(|_| ready);
        let due = due.map(|due| service.started() + due);
        let wake_at = wake_at.into_iter().chain(due).min();
        let wake = async {
            match wake_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = service.retired().cancelled() => {
                info!(service = %service.name(), "service removed; ending its streams");
                if let Some(saved) = save(service, &state) {
                    let saved = Remembered::new(saved, Duration::ZERO);
                    memory.keep(service.name().clone(), saved);
                }
                let ended = service.subscribers();
                ended.end_all(EndReason::ServiceRemoved, REMOVAL_JITTER).await;
                return;
            }
            () = service.changed().notified() => dirty = true,
            () = service.saving().asked() => service.saving().answer(|| save(service, &state)),
            // Pace said when to look again; or the deadline to be ready passed.
            () = wake => {}
            _ = clients_check.tick() => {
                if let Some(snapshot) = service.snapshot() {
                    let clients = service.clients();
                    metrics.clients(service.name(), &snapshot, &clients);
                    dirty |= state.clients_moved(&clients);
                }
            }
            _ = stall_check.tick() => {
                let closed = service.subscribers().close_stalled(service.age(), STALL_LIMIT);
                if closed > 0 {
                    metrics.stalled(closed);
                    warn!(
                        service = %service.name(),
                        closed,
                        "closed connections of clients that took no list for {STALL_LIMIT:?}"
                    );
                }
            }
        }
    }
}

/// The state to begin with: what the service learned in an earlier life, as far as
/// that fits what it is now.
fn begin(service: &Service, memory: &Memory) -> PlanState {
    let Some(remembered) = memory.take(service.name()) else {
        return PlanState::default();
    };
    let ago = remembered.age();
    info!(service = %service.name(), ?ago, "goes on from the weights it learned before");
    PlanState::load(remembered.plan, &service.settings(), service.age(), ago)
}

/// What the service has learned; `None` if it does not learn.
fn save(service: &Service, state: &PlanState) -> Option<SavedPlan> {
    let learns = state.learns(&service.settings());
    learns.then(|| state.save(service.age()))
}

/// Plans anew, and tells the pace how far that is from what is published.
fn consider(service: &Service, state: &mut PlanState, pace: &mut Pace) -> Option<Plan> {
    let now = service.age();
    let candidate = service.with_inputs(|input| plan(input, state, now));
    let published = service.snapshot();
    let lane = match &published {
        Some(snapshot) => snapshot.plan.lane_to(&candidate),
        None => Some(crate::plan::Lane::Change),
    };
    match lane {
        Some(lane) => {
            pace.changed(lane, now);
            Some(candidate)
        }
        None => {
            pace.settled();
            None
        }
    }
}

fn publish(service: &Service, plan: Plan, metrics: &FleetMetrics) {
    let snapshot = Snapshot::next(service.snapshot().as_deref(), plan);
    metrics.published(service.name(), &snapshot);
    debug!(
        service = %service.name(),
        version = snapshot.version,
        backends = snapshot.plan.members.len(),
        "published"
    );
    let same = service.publish(snapshot);
    metrics.pushes_skipped(service.name(), same);
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_publisher_that_fails_is_started_again_ever_more_slowly() {
        let runs = Cell::new(0u32);
        let pauses = RefCell::new(Vec::new());
        let task = || async {
            runs.set(runs.get() + 1);
            assert!(runs.get() > 8, "fails on purpose");
        };
        restart_on_panic(task, |pause| pauses.borrow_mut().push(pause.as_secs())).await;
        assert_eq!(runs.get(), 9);
        assert_eq!(pauses.into_inner(), [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
