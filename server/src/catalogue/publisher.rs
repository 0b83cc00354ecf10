//! The task that turns what is known of a service into snapshots: observe, plan if
//! something changed, publish when the pace allows, sleep until the next of these is due.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info};

use super::inputs::Answered;
use super::memory::{Memory, Remembered};
use super::metrics::ServiceMetrics;
use super::news::{self, Waiting};
use super::service::Service;
use super::snapshot::{Observed, Snapshot};
use crate::wait::{Task, until};
use lookaside_core::plan::{
    Lane, Pace, Plan, PlanInput, PlanState, Publish, SavedPlan, ServiceSettings,
};

/// A service publishes what it knows this long after it began, even if a
/// source has not answered.
pub(super) const READY_DEADLINE: Duration = Duration::from_secs(10);

/// Between two plans there is this many times what the last one took: while
/// thousands of backends change one by one, planning after each would take all the
/// time there is, and keep the feeders of the others waiting.
const REST: u32 = 3;

/// How plans are made: by [`plan`](lookaside_core::plan::plan), but where a test has it
/// fail.
pub(super) trait Planner:
    Fn(PlanInput<'_>, &mut PlanState, Duration) -> Plan + Sync
{
}

impl<F: Fn(PlanInput<'_>, &mut PlanState, Duration) -> Plan + Sync> Planner for F {}

/// The publisher of a service, which runs until the service is removed. What the service
/// learned it takes from `memory`, and leaves there at its end.
pub(super) struct Publisher<'a, P> {
    planner: &'a P,
    service: &'a Service,
    memory: &'a Memory,
    metrics: ServiceMetrics,
    /// `None` before the first run, and where the next one starts from nothing.
    state: Option<PlanState>,
    /// Whether something was published with the state since a run last began.
    proven: bool,
}

impl<'a, P: Planner> Publisher<'a, P> {
    pub(super) fn new(
        planner: &'a P,
        service: &'a Service,
        memory: &'a Memory,
        metrics: ServiceMetrics,
    ) -> Self {
        Self {
            planner,
            service,
            memory,
            metrics,
            state: None,
            proven: false,
        }
    }

    /// The state to begin with: what the service learned in an earlier life, as far as
    /// that fits what it is now.
    fn begin(&self) -> PlanState {
        let Some(remembered) = self.memory.take(self.service.name()) else {
            return PlanState::default();
        };
        let ago = remembered.age();
        info!(service = %self.service.name(), ?ago, "goes on from the weights it learned before");
        let (settings, now) = (self.service.settings(), self.service.age());
        PlanState::load(remembered.plan, &settings, now, ago)
    }
}

impl<P: Planner> Task for Publisher<'_, P> {
    async fn run(&mut self) {
        let state = self.state.take().unwrap_or_else(|| self.begin());
        let run = Run {
            planner: self.planner,
            service: self.service,
            memory: self.memory,
            metrics: &mut self.metrics,
            state: self.state.insert(state),
            proven: &mut self.proven,
            waiting: Waiting::default(),
            pace: Pace::default(),
            candidate: None,
            // A restarted publisher must not miss what changed while it was away.
            dirty: true,
            rested: Instant::now(),
        };
        run.until_removed().await;
    }

    /// One bad plan costs nothing that was learned. A second one, with nothing
    /// published in between, may be due to what is known: the next run starts from nothing.
    fn failed(&mut self, restart_in: Duration) {
        if !std::mem::take(&mut self.proven) {
            self.state = None;
        }
        self.metrics.publisher_failed();
        error!(
            service = %self.service.name(),
            ?restart_in,
            "the publisher failed; clients keep the list they have"
        );
    }
}

struct Run<'a, P> {
    planner: &'a P,
    service: &'a Service,
    memory: &'a Memory,
    metrics: &'a mut ServiceMetrics,
    state: &'a mut PlanState,
    proven: &'a mut bool,
    waiting: Waiting,
    pace: Pace,
    /// A plan that waits to be published.
    candidate: Option<Plan>,
    /// Whether something changed since the last plan.
    dirty: bool,
    /// Not before is the next plan made.
    rested: Instant,
}

impl<P: Planner> Run<'_, P> {
    async fn until_removed(mut self) {
        loop {
            let wake_at = self.step();
            tokio::select! {
                () = self.service.removed().cancelled() => break,
                () = self.service.changed() => self.dirty = true,
                clients = self.service.clients_changed() => {
                    self.dirty |= self.state.clients_moved(&clients);
                }
                () = self.service.saving().asked() => {
                    self.service.saving().answer(|| self.saved());
                }
                () = until(wake_at) => {}
            }
        }
        if let Some(saved) = self.saved() {
            let saved = Remembered::new(saved, Duration::ZERO);
            self.memory.keep(self.service.name().clone(), saved);
        }
    }

    /// Plans and publishes what is due now; returns when the next of it is.
    fn step(&mut self) -> Option<Instant> {
        let (expired, expires_at) = self.service.expire();
        self.dirty |= expired;
        let answered = self.service.answered();
        let ready_by = self.service.started() + READY_DEADLINE;
        if !self.is_ready(answered, ready_by) {
            self.waiting.begin(self.service, READY_DEADLINE);
            return (answered == Answered::Some).then_some(ready_by);
        }
        let began = Instant::now();
        let settings = self.service.settings();
        // Weights move though nothing else does.
        let due = self.state.next(&settings);
        self.dirty |= due.is_some_and(|due| due <= self.service.age());
        let planned = self.dirty && began >= self.rested;
        if planned {
            self.dirty = false;
            self.plan();
        }
        let (published, publish_at) = match self.pace.decide(self.service.age()) {
            Some(Publish::Now) => (self.publish_candidate(), None),
            Some(Publish::At(at)) => (false, Some(self.service.started() + at)),
            None => (false, None),
        };
        if planned && !published {
            self.publish_observations();
        }
        if planned || published {
            self.rested = Instant::now() + began.elapsed() * REST;
        }
        let due = self.state.next(&settings);
        let due = due.map(|due| (self.service.started() + due).max(self.rested));
        let again = self.dirty.then_some(self.rested);
        let times = [publish_at, due, again, expires_at];
        times.into_iter().flatten().min()
    }

    /// Once it is ready it stays so, though sources are added.
    fn is_ready(&self, answered: Answered, ready_by: Instant) -> bool {
        self.service.snapshot().is_some()
            || match answered {
                Answered::All => true,
                Answered::Some => Instant::now() >= ready_by,
                Answered::None => false,
            }
    }

    /// Makes a plan, and tells the pace how far that is from what is published.
    fn plan(&mut self) {
        let now = self.service.age();
        let view = self.service.view();
        let plan = (self.planner)(view.input(), self.state, now);
        let lane = match self.service.snapshot() {
            Some(snapshot) => snapshot.plan.lane_to(&plan),
            None => Some(Lane::Change),
        };
        match lane {
            // What waits does not wait longer because it was planned again.
            Some(_) if self.candidate.as_ref() == Some(&plan) => {}
            Some(lane) => {
                self.pace.changed(lane, now);
                self.candidate = Some(plan);
            }
            None => {
                self.pace.settled();
                self.candidate = None;
            }
        }
    }

    /// Publishes the plan that waits; returns whether there was one.
    fn publish_candidate(&mut self) -> bool {
        let now = self.service.age();
        self.pace.published(now);
        let Some(plan) = self.candidate.take() else {
            return false;
        };
        let settings = self.service.settings();
        self.state.published(&plan, now);
        self.waiting.end(self.service, &plan);
        if self.state.learns(&settings) {
            self.memory.note_learned();
        }
        let observed = self.observe(&settings);
        let before = self.service.snapshot();
        let snapshot = Snapshot::next(before.as_deref(), plan, settings, observed);
        debug!(
            service = %self.service.name(),
            version = snapshot.version,
            backends = snapshot.plan.members.len(),
            "published"
        );
        self.publish(before.as_deref(), snapshot);
        *self.proven = true;
        true
    }

    /// Publishes what is observed beside the plan that clients have.
    fn publish_observations(&mut self) {
        let Some(before) = self.service.snapshot() else {
            return;
        };
        let settings = self.service.settings();
        let snapshot = Snapshot {
            observed: self.observe(&settings),
            settings,
            ..Snapshot::clone(&before)
        };
        self.publish(Some(&before), snapshot);
    }

    fn publish(&mut self, before: Option<&Snapshot>, snapshot: Snapshot) {
        news::tell(self.service.name(), before, &snapshot);
        self.metrics.published(before, &snapshot);
        self.service.publish(snapshot);
    }

    fn observe(&self, settings: &ServiceSettings) -> Observed {
        let (state, now) = (&*self.state, self.service.age());
        Observed {
            sources: self.service.sources(),
            learns: state.next(settings).is_some(),
            backends: state.observations(settings, now).collect(),
            overload: state.overload(now),
            gate: state.gate(),
            ejections: state.ejections(),
        }
    }

    /// What the service has learned; `None` if it does not learn.
    fn saved(&self) -> Option<SavedPlan> {
        let learns = self.state.learns(&self.service.settings());
        learns.then(|| self.state.save(self.service.age()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::sleep;

    use super::*;
    use crate::catalogue::CatalogueMetrics;
    use crate::catalogue::membership::Membership;
    use crate::catalogue::source::Missing;
    use crate::wait::restarting;
    use lookaside_core::model::{BackendAddr, ServiceName};
    use lookaside_core::plan::{Contribution, MemberFields, ServiceSettings, SourceKind, plan};
    use lookaside_core::weights::{PolicyChoice, RawReport, Report, ReportSource};

    /// A service of these hosts that learns from reports.
    fn service(hosts: &[u8]) -> Service {
        let mut settings = ServiceSettings::default();
        settings.weights.policy = PolicyChoice::FEEDBACK;
        let name = ServiceName::parse("greeter.test").unwrap();
        let service = Service::new(
            name,
            settings,
            [SourceKind::File.into()],
            Membership::default(),
        );
        list(&service, hosts);
        service
    }

    fn list(service: &Service, hosts: &[u8]) {
        let file = SourceKind::File.into();
        service.contribute(&file, members(hosts), Missing::Removed);
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
        let metrics = CatalogueMetrics::default().service(service.name());
        let mut publisher = Publisher::new(&planner, service, &memory, metrics);
        tokio::select! {
            () = restarting(&mut publisher) => panic!("it ended"),
            () = test => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_that_fails_is_started_again() {
        let service = service(&[1]);
        beside(&service, &AtomicU32::new(3), async {
            service.ready().await;
            assert_eq!(service.age().as_secs(), 1 + 2 + 4);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_has_something_to_say_waits_for_a_plan() {
        let service = service(&[1, 2]);
        let planner = |input: PlanInput<'_>, state: &mut PlanState, now: Duration| {
            // Would wait for ever, if the plan kept the service locked.
            service.set_suspect(addr(1), true);
            list(&service, &[1, 2, 3]);
            assert_eq!(
                input.contributions[&SourceKind::File.into()].members.len(),
                2
            );
            assert_eq!(input.health.get(&addr(1)), None);
            plan(input, state, now)
        };
        let view = service.view();
        let plan = planner(view.input(), &mut PlanState::default(), Duration::ZERO);
        assert_eq!(plan.members.len(), 2);
        let next = service.view();
        assert_eq!(
            next.input().contributions[&SourceKind::File.into()]
                .members
                .len(),
            3
        );
        assert!(next.input().health[&addr(1)].suspect);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_of_a_backend_is_forgotten_with_it() {
        let service = service(&[1, 2]);
        service.set_suspect(addr(2), true);
        list(&service, &[1]);
        drop(service.view());
        list(&service, &[1, 2]);
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
