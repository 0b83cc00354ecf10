//! The task that turns what is known of a service into snapshots.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use super::memory::{Memory, Remembered};
use super::metrics::ServiceMetrics;
use super::news::{self, Waiting};
use super::service::Service;
use super::snapshot::Snapshot;
use super::subscribers::EndReason;
use crate::wait::until;
use lookaside_core::model::BackendAddr;
use lookaside_core::plan::{
    Lane, OverloadObservation, Pace, Plan, PlanInput, PlanState, Publish, SavedPlan, plan,
};

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
pub(super) async fn supervise(
    service: Arc<Service>,
    memory: Arc<Memory>,
    mut metrics: ServiceMetrics,
) {
    supervise_by(&plan, &service, &memory, &mut metrics).await;
}

/// How plans are made: by [`plan`], but where a test has it fail.
trait Planner: Fn(PlanInput<'_>, &mut PlanState, Duration) -> Plan + Sync {}

impl<F: Fn(PlanInput<'_>, &mut PlanState, Duration) -> Plan + Sync> Planner for F {}

/// Runs a publisher to its end; after a panic again, after a pause that doubles.
async fn supervise_by(
    planner: &impl Planner,
    service: &Service,
    memory: &Memory,
    metrics: &mut ServiceMetrics,
) {
    let (mut pause, longest) = RESTART_BACKOFF;
    let mut known = Known::default();
    loop {
        let run = run(planner, service, memory, metrics, &mut known);
        if AssertUnwindSafe(run).catch_unwind().await.is_ok() {
            return;
        }
        known.survive();
        metrics.publisher_failed();
        error!(
            service = %service.name(),
            restart_in = ?pause,
            "the publisher failed; clients keep the list they have"
        );
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// What a publisher that fails leaves to the next.
#[derive(Default)]
struct Known {
    /// `None` before the first begins, and when it begins anew.
    state: Option<PlanState>,
    /// Whether something was published with it since a publisher last began.
    proven: bool,
    /// Whose reports are not believed, as far as operators were told.
    distrusted: BTreeSet<BackendAddr>,
}

impl Known {
    /// One bad plan costs nothing that was learned. A second one, with nothing
    /// published in between, may be due to what is known: the next begins anew.
    fn survive(&mut self) {
        if !std::mem::take(&mut self.proven) {
            self.state = None;
        }
    }
}

/// Between two plans there is this many times what the last one took: while
/// thousands of backends change one by one, planning after each would take all the
/// time there is, and keep those out who tell of the others.
const REST: u32 = 3;

async fn run(
    planner: &impl Planner,
    service: &Service,
    memory: &Memory,
    metrics: &mut ServiceMetrics,
    known: &mut Known,
) {
    let Known {
        state,
        proven,
        distrusted,
    } = known;
    let mut waiting = Waiting::default();
    let state = state.get_or_insert_with(|| begin(service, memory));
    let mut pace = Pace::default();
    let mut candidate: Option<Plan> = None;
    let ready_by = service.started() + READY_DEADLINE;
    let mut stall_check = tokio::time::interval(STALL_CHECK);
    let mut clients_check = tokio::time::interval(CLIENTS_CHECK);

    // A restarted publisher must not miss what changed while it was away.
    let mut dirty = true;
    let mut rested = Instant::now();
    loop {
        let (all, any) = service.answered();
        let ready = service.snapshot().is_some() || all || (any && Instant::now() >= ready_by);
        if !ready {
            waiting.begin(service, READY_DEADLINE);
        }
        let settings = service.settings();
        // Weights move though nothing else does.
        let due = state.next(&settings);
        dirty |= due.is_some_and(|due| due <= service.age());
        let began = Instant::now();
        let planned = dirty && ready && began >= rested;
        if planned {
            dirty = false;
            consider(planner, service, state, &mut pace, &mut candidate);
        }
        let mut published = false;
        let wake_at = match pace.decide(service.age()) {
            Some(Publish::Now) => {
                if let Some(plan) = candidate.take() {
                    state.published(&plan, service.age());
                    waiting.end(service, &plan);
                    publish(service, plan, metrics, state.overload(service.age()));
                    (*proven, published) = (true, true);
                    if state.learns(&settings) {
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
        // After the publish: what is told of weights is what clients have.
        if planned || published {
            let disbelieved = metrics.weights.update(state, &settings, service.age());
            let known = |backend| metrics.weights.knows(backend);
            news::tell_trust(service.name(), distrusted, disbelieved, known);
            rested = Instant::now() + began.elapsed() * REST;
        }
        // Before it is ready nothing can be done about what is due.
        let due = state.next(&settings).filter(|_| ready);
        let due = due.map(|due| (service.started() + due).max(rested));
        let again = (dirty && ready).then_some(rested);
        let wake_at = wake_at.into_iter().chain(due).chain(again).min();
        tokio::select! {
            () = service.retired().cancelled() => {
                info!(service = %service.name(), "service removed; ending its streams");
                if let Some(saved) = save(service, state) {
                    let saved = Remembered::new(saved, Duration::ZERO);
                    memory.keep(service.name().clone(), saved);
                }
                let ended = service.subscribers();
                ended.end_all(EndReason::ServiceRemoved, REMOVAL_JITTER).await;
                return;
            }
            () = service.changed().notified() => dirty = true,
            () = service.saving().asked() => service.saving().answer(|| save(service, state)),
            // Pace said when to look again; or the deadline to be ready passed.
            () = until(wake_at) => {}
            _ = clients_check.tick() => {
                if let Some(snapshot) = service.snapshot() {
                    let clients = service.clients();
                    metrics.clients(&snapshot, &clients);
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
fn consider(
    planner: &impl Planner,
    service: &Service,
    state: &mut PlanState,
    pace: &mut Pace,
    candidate: &mut Option<Plan>,
) {
    let now = service.age();
    let view = service.view();
    let plan = planner(view.input(), state, now);
    let published = service.snapshot();
    let lane = match &published {
        Some(snapshot) => snapshot.plan.lane_to(&plan),
        None => Some(Lane::Change),
    };
    match lane {
        // What waits does not wait longer because it was planned again.
        Some(_) if candidate.as_ref() == Some(&plan) => {}
        Some(lane) => {
            pace.changed(lane, now);
            *candidate = Some(plan);
        }
        None => {
            pace.settled();
            *candidate = None;
        }
    }
}

fn publish(service: &Service, plan: Plan, metrics: &mut ServiceMetrics, seen: OverloadObservation) {
    let before = service.snapshot();
    let snapshot = Snapshot::next(before.as_deref(), plan);
    let overload = (seen, service.settings().overload);
    let listed = snapshot.lists_differ_from(before.as_deref());
    let before = before.as_ref().map(|before| &before.plan);
    news::tell(service.name(), before, &snapshot.plan, overload);
    metrics.published(&snapshot, listed);
    debug!(
        service = %service.name(),
        version = snapshot.version,
        backends = snapshot.plan.members.len(),
        "published"
    );
    let same = service.publish(snapshot);
    metrics.pushes_skipped(same);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::fleet::FleetMetrics;
    use lookaside_core::model::{BackendAddr, ServiceName};
    use lookaside_core::plan::{Contribution, MemberFields, ServiceSettings, Source};
    use lookaside_core::weights::{PolicyChoice, RawReport, Report, ReportSource};

    /// A service of these hosts that learns from reports.
    fn service(hosts: &[u8]) -> Service {
        let mut settings = ServiceSettings::default();
        settings.weights.policy = PolicyChoice::FEEDBACK;
        let name = ServiceName::parse("greeter.test").unwrap();
        let service = Service::new(name, settings, [Source::File]);
        service.contribute(Source::File, members(hosts));
        service
    }

    fn members(hosts: &[u8]) -> Contribution {
        let members = hosts
            .iter()
            .map(|host| (addr(*host), MemberFields::default()));
        members.collect()
    }

    fn addr(host: u8) -> BackendAddr {
        format!("10.0.0.{host}:80").parse().unwrap()
    }

    /// A minute in which the second backend needs three times as much for a call.
    async fn learn(service: &Service) {
        for _ in 0..12 {
            for (host, cpu_utilization) in [(1, 0.3), (2, 0.9)] {
                let raw = RawReport {
                    source: ReportSource::Registration,
                    cpu_utilization,
                    application_utilization: 0.0,
                    named: &[],
                    qps: 100.0,
                    eps: 0.0,
                };
                service.report(addr(host), Report::new(&raw, &[]).unwrap());
            }
            sleep(Duration::from_secs(5)).await;
        }
    }

    fn factors(service: &Service) -> Vec<f64> {
        let snapshot = service.snapshot().unwrap();
        snapshot.plan.members.iter().map(|m| m.factor).collect()
    }

    /// Does something beside a publisher whose next plans fail when `fail` says how
    /// many.
    async fn beside(service: &Service, fail: &AtomicU32, test: impl Future<Output = ()>) {
        let planner = |input: PlanInput<'_>, state: &mut PlanState, now: Duration| {
            let less = |left: u32| left.checked_sub(1);
            let failing = fail.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            assert!(failing.is_err(), "fails on purpose");
            plan(input, state, now)
        };
        let memory = Memory::default();
        let mut metrics = FleetMetrics::default().service(service.name());
        tokio::select! {
            () = supervise_by(&planner, service, &memory, &mut metrics) => panic!("it ended"),
            () = test => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_that_fails_is_started_again_ever_more_slowly() {
        let service = service(&[1]);
        beside(&service, &AtomicU32::new(8), async {
            service.ready().await;
            let pauses: u64 = [1, 2, 4, 8, 16, 32, 60, 60].iter().sum();
            assert_eq!(service.age().as_secs(), pauses);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_has_something_to_say_waits_for_a_plan() {
        let service = service(&[1, 2]);
        let planner = |input: PlanInput<'_>, state: &mut PlanState, now: Duration| {
            // Would wait for ever, if the plan kept the service locked.
            service.set_suspect(addr(1), true);
            service.contribute(Source::File, members(&[1, 2, 3]));
            assert_eq!(input.contributions[&Source::File].members.len(), 2);
            assert_eq!(input.health.get(&addr(1)), None);
            plan(input, state, now)
        };
        let view = service.view();
        let plan = planner(view.input(), &mut PlanState::default(), Duration::ZERO);
        assert_eq!(plan.members.len(), 2);
        let next = service.view();
        assert_eq!(next.input().contributions[&Source::File].members.len(), 3);
        assert!(next.input().health[&addr(1)].suspect);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_of_a_backend_is_forgotten_with_it() {
        let service = service(&[1, 2]);
        service.set_suspect(addr(2), true);
        service.contribute(Source::File, members(&[1]));
        drop(service.view());
        service.contribute(Source::File, members(&[1, 2]));
        assert_eq!(service.view().input().health.get(&addr(2)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_that_fails_costs_nothing_that_was_learned() {
        let service = service(&[1, 2]);
        let fail = AtomicU32::new(0);
        beside(&service, &fail, async {
            learn(&service).await;
            let learned = factors(&service);
            assert!(learned[0] > 1.5 * learned[1], "{learned:?}");

            fail.store(1, Ordering::Relaxed);
            sleep(Duration::from_secs(20)).await;
            assert_eq!(fail.load(Ordering::Relaxed), 0);
            let now = factors(&service);
            let ratio = |factors: &[f64]| factors[0] / factors[1];
            let moved = ratio(&now) / ratio(&learned);
            assert!(moved.ln().abs() < 0.12, "{learned:?} became {now:?}");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_twice_in_a_row_is_forgotten() {
        let service = service(&[1, 2]);
        let fail = AtomicU32::new(0);
        beside(&service, &fail, async {
            learn(&service).await;
            fail.store(2, Ordering::Relaxed);
            sleep(Duration::from_secs(20)).await;
            assert_eq!(fail.load(Ordering::Relaxed), 0);
            assert_eq!(factors(&service), [1.0, 1.0]);
        })
        .await;
    }
}
