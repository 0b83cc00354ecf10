//! What an operator must know of a service: told when it begins and when it is
//! over, in one line each, however many backends it is about.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::backend_log::Named;
use super::service::Service;
use super::snapshot::{Observed, Snapshot};
use super::source::SourceState;
use super::source_news;
use lookaside_core::model::{BackendAddr, OverloadDrops, ServiceName};
use lookaside_core::plan::{BackendState, OverloadObservation, Plan, SourceKind};

/// Says what is new about a service whose clients have `before` and get `now`.
pub(super) fn tell(service: &ServiceName, before: Option<&Snapshot>, now: &Snapshot) {
    if before.is_none_or(|before| before.version != now.version) {
        let overload = (now.observed.overload, now.settings.overload);
        tell_plan(
            service,
            before.map(|before| &*before.plan),
            &now.plan,
            overload,
        );
    }
    if let Some(before) = before {
        source_news::tell(service, &before.observed.sources, &now.observed.sources);
        tell_trust(service, &before.observed, &now.observed);
    }
}

fn tell_plan(
    service: &ServiceName,
    before: Option<&Plan>,
    now: &Plan,
    (overload, drops): (OverloadObservation, Option<OverloadDrops>),
) {
    let dropped = before.map_or(0.0, |before| before.overload);
    if dropped <= 0.0 && now.overload > 0.0 {
        warn!(
            %service,
            share = now.overload,
            utilization = overload.utilization,
            bound = drops.map(OverloadDrops::utilization),
            "overloaded: from now on some of its calls are dropped"
        );
    } else if dropped > 0.0 && now.overload <= 0.0 {
        info!(
            %service,
            utilization = overload.utilization,
            bound = drops.map(OverloadDrops::utilization),
            "no longer overloaded: none of its calls are dropped for that any more"
        );
    }
    tell_ejections(service, before, now);
    let stood = before.map_or(Standing::Well, Standing::of);
    let stands = Standing::of(now);
    if stood != stands {
        stands.tell(service, now);
    }
}

/// Says who gets no calls because those fail, and who gets calls again.
fn tell_ejections(service: &ServiceName, before: Option<&Plan>, now: &Plan) {
    let ejected = |plan: &Plan| -> BTreeSet<BackendAddr> {
        let members = plan.members.iter();
        let ejected = members.filter(|member| member.state == BackendState::Ejected);
        ejected.map(|member| member.addr).collect()
    };
    let (was, is) = (before.map(ejected).unwrap_or_default(), ejected(now));
    let begins: Vec<BackendAddr> = is.difference(&was).copied().collect();
    if !begins.is_empty() {
        warn!(
            %service,
            backend = %Named::of(&begins),
            count = begins.len(),
            "ejected: of its calls more fail than of the others'"
        );
    }
    let members: BTreeSet<BackendAddr> = now.members.iter().map(|member| member.addr).collect();
    let ends = was.difference(&is).filter(|addr| members.contains(addr));
    let ends: Vec<BackendAddr> = ends.copied().collect();
    if !ends.is_empty() {
        info!(
            %service,
            backend = %Named::of(&ends),
            count = ends.len(),
            "returned: no longer ejected"
        );
    }
}

/// How a service's backends are as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Enough are healthy.
    Well,
    /// So few are healthy that others are listed, too.
    Few,
    /// None is healthy.
    Nobody,
    /// None is healthy, and none failed: they are new.
    New,
    /// There is none, or all drain.
    Empty,
}

impl Standing {
    fn of(plan: &Plan) -> Self {
        let any = |what: fn(BackendState) -> bool| plan.members.iter().any(|m| what(m.state));
        if plan.few_are_healthy() && any(BackendState::is_healthy) {
            Self::Few
        } else if any(BackendState::is_healthy) {
            Self::Well
        } else if any(|state| matches!(state, BackendState::Unhealthy | BackendState::Ejected)) {
            Self::Nobody
        } else if any(|state| state == BackendState::Joining) {
            Self::New
        } else {
            Self::Empty
        }
    }

    fn tell(self, service: &ServiceName, plan: &Plan) {
        let members = plan.members.iter();
        let failing =
            members.filter(|m| !m.state.is_healthy() && m.state != BackendState::Draining);
        let failing: Vec<BackendAddr> = failing.map(|member| member.addr).collect();
        let healthy = plan.members.iter().filter(|m| m.state.is_healthy()).count();
        let backends = Named::of(&failing);
        match self {
            Self::Well => info!(%service, healthy, "it has enough healthy backends again"),
            Self::Few => warn!(
                %service,
                healthy,
                failing = failing.len(),
                %backends,
                "fewer than half of its backends are healthy: those that fail, but take \
                 connections, are listed all the same"
            ),
            Self::Nobody => warn!(
                %service,
                failing = failing.len(),
                %backends,
                "none of its backends is healthy: failing ones are listed all the same"
            ),
            Self::New => info!(
                %service,
                %backends,
                "its backends are new, and none is found healthy yet: all are listed"
            ),
            Self::Empty => warn!(
                %service,
                draining = plan.members.len(),
                "it has no backends to call: its clients are told to fall back"
            ),
        }
    }
}

/// Says whose reports began to be disbelieved, and whose are believed again; of
/// backends that are gone, nothing.
fn tell_trust(service: &ServiceName, before: &Observed, now: &Observed) {
    let was: BTreeSet<BackendAddr> = before.distrusted().collect();
    let is: BTreeSet<BackendAddr> = now.distrusted().collect();
    let begins: Vec<BackendAddr> = is.difference(&was).copied().collect();
    if !begins.is_empty() {
        warn!(
            %service,
            backend = %Named::of(&begins),
            why = "by its reports it could take far more calls than the others, or than it used to",
            "its reports are not believed for a while"
        );
    }
    let ends = was.difference(&is).copied();
    let ends: Vec<BackendAddr> = ends.filter(|addr| now.has(*addr)).collect();
    if !ends.is_empty() {
        info!(%service, backend = %Named::of(&ends), "its reports are believed again");
    }
}

/// What was told of the time in which a service waits for its first backends.
#[derive(Debug, Default)]
pub(super) struct Waiting(Option<Instant>);

impl Waiting {
    /// The service is not ready. Told once, and only of who has backends that
    /// register: that takes seconds, other sources answer or say why not.
    pub(super) fn begin(&mut self, service: &Service, limit: Duration) {
        let registration = service
            .sources()
            .get(&SourceKind::Registration.into())
            .copied();
        if self.0.is_none() && registration == Some(SourceState::Syncing) {
            self.0 = Some(Instant::now());
            info!(
                service = %service.name(),
                "waits up to {limit:?} for its backends to register; streams are held meanwhile"
            );
        }
    }

    /// The service has its first list.
    pub(super) fn end(&mut self, service: &Service, plan: &Plan) {
        if let Some(began) = self.0.take() {
            info!(
                service = %service.name(),
                backends = plan.members.len(),
                waited = ?began.elapsed(),
                "its clients are told of its backends now"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalogue::membership::Membership;
    use crate::telemetry::Lines;
    use lookaside_core::plan::{
        Clients, Contribution, HealthFields, MemberFields, PlanInput, PlanState, Probe,
        ServiceSettings, plan,
    };
    use lookaside_core::weights::{Freshness, Observation};

    fn service() -> ServiceName {
        ServiceName::parse("greeter.test").unwrap()
    }

    fn addr(index: usize) -> BackendAddr {
        format!("10.0.{}.{}:80", index / 250, index % 250 + 1)
            .parse()
            .unwrap()
    }

    /// The plan of backends with these probes.
    fn planned(probes: &[Probe]) -> Plan {
        let members = (0..probes.len()).map(|index| (addr(index), MemberFields::default()));
        let contribution = members.collect::<Contribution>();
        let health = probes.iter().enumerate().map(|(index, probe)| {
            let fields = HealthFields {
                probe: *probe,
                suspect: false,
            };
            (addr(index), fields)
        });
        let input = PlanInput {
            contributions: &BTreeMap::from([(SourceKind::File.into(), contribution)]),
            settings: &ServiceSettings::default(),
            health: &health.collect(),
            reports: &[],
            clients: &Clients::default(),
        };
        plan(input, &mut PlanState::default(), Duration::ZERO)
    }

    fn told(before: Option<&Plan>, now: &Plan) -> Vec<String> {
        let quiet = (OverloadObservation::default(), None);
        Lines::of(|| tell_plan(&service(), before, now, quiet))
    }

    #[test]
    fn a_thousand_that_fail_are_one_line_and_so_is_their_return() {
        let well = planned(&[Probe::Good; 1000]);
        let few = planned(&[[Probe::Good; 400], [Probe::Bad; 400]].concat()[1..]);
        let nobody = planned(&[Probe::Bad; 1000]);
        assert!(told(None, &well).is_empty());
        let begins = told(Some(&well), &few);
        assert!(
            begins.len() == 1 && begins[0].contains("WARN"),
            "{begins:?}"
        );
        assert!(begins[0].contains("service=greeter.test"), "{begins:?}");
        assert!(begins[0].contains("fewer than half"), "{begins:?}");
        assert!(begins[0].contains(" and 395 more"), "{begins:?}");
        assert!(told(Some(&few), &few).is_empty());
        let worse = told(Some(&few), &nobody);
        assert!(
            worse.len() == 1 && worse[0].contains("none of its"),
            "{worse:?}"
        );
        let ends = told(Some(&nobody), &well);
        assert!(ends.len() == 1 && ends[0].contains("INFO"), "{ends:?}");
        let empty = told(None, &planned(&[]));
        assert!(
            empty.len() == 1 && empty[0].contains("no backends"),
            "{empty:?}"
        );
    }

    #[test]
    fn drops_for_overload_are_told_when_they_begin_and_end() {
        let quiet = planned(&[Probe::Good]);
        let dropping = Plan {
            overload: 0.2,
            ..quiet.clone()
        };
        let seen = OverloadObservation {
            utilization: Some(1.25),
            ..OverloadObservation::default()
        };
        let drops = OverloadDrops::new(0.9, 0.5).ok();
        let begins = Lines::of(|| tell_plan(&service(), Some(&quiet), &dropping, (seen, drops)));
        let what = "service=greeter.test share=0.2 utilization=1.25 bound=0.9";
        assert!(begins.len() == 1 && begins[0].contains(what), "{begins:?}");
        assert!(begins[0].contains("WARN"), "{begins:?}");
        assert!(told(Some(&dropping), &dropping).is_empty());
        let ends = told(Some(&dropping), &quiet);
        assert!(ends.len() == 1 && ends[0].contains("INFO"), "{ends:?}");
    }

    #[test]
    fn ejections_and_returns_are_a_line_each_with_the_backends_named() {
        let well = planned(&[Probe::Good; 8]);
        let mut ejecting = well.clone();
        for member in &mut ejecting.members[..2] {
            member.state = BackendState::Ejected;
        }
        let begins = told(Some(&well), &ejecting);
        assert_eq!(begins.len(), 1, "{begins:?}");
        for wanted in [
            "WARN",
            "ejected",
            "service=greeter.test",
            "10.0.0.1:80, 10.0.0.2:80",
        ] {
            assert!(begins[0].contains(wanted), "{begins:?}");
        }
        assert!(told(Some(&ejecting), &ejecting).is_empty());
        let ends = told(Some(&ejecting), &well);
        assert_eq!(ends.len(), 1, "{ends:?}");
        assert!(
            ends[0].contains("INFO") && ends[0].contains("returned"),
            "{ends:?}"
        );
        // One that is removed does not return.
        let mut gone = well;
        gone.members.drain(..2);
        assert!(told(Some(&ejecting), &gone).is_empty());
    }

    #[test]
    fn who_is_disbelieved_is_named_once() {
        let observed = |distrusted: &[usize], gone: Option<usize>| {
            let known = (0..4).filter(|index| Some(*index) != gone);
            let backends = known.map(|index| Observation {
                addr: addr(index),
                utilization: 0.5,
                qps: 10.0,
                report_age: None,
                freshness: Freshness::Known,
                trusted: !distrusted.contains(&index),
                policy: None,
                shadow: None,
                slow_start: 1.0,
                factor: None,
                published: None,
                ejected: None,
            });
            Observed {
                learns: true,
                backends: backends.collect(),
                ..Observed::default()
            }
        };
        let mut before = observed(&[], None);
        let mut told = |distrusted: &[usize], gone: Option<usize>| {
            let now = observed(distrusted, gone);
            let lines = Lines::of(|| tell_trust(&service(), &before, &now));
            before = now;
            lines
        };
        let begins = told(&[1, 2], None);
        assert!(
            begins.len() == 1 && begins[0].contains("WARN"),
            "{begins:?}"
        );
        assert!(
            begins[0].contains("backend=10.0.0.2:80, 10.0.0.3:80"),
            "{begins:?}"
        );
        assert!(told(&[1, 2], None).is_empty());
        assert!(told(&[2], Some(1)).is_empty());
        let ends = told(&[], None);
        assert!(
            ends.len() == 1 && ends[0].contains("believed again"),
            "{ends:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_registrations_is_told_once_and_so_is_its_end() {
        let limit = Duration::from_secs(10);
        let file = Service::new(
            service(),
            ServiceSettings::default(),
            [SourceKind::File.into()],
            Membership::default(),
        );
        assert!(Lines::of(|| Waiting::default().begin(&file, limit)).is_empty());

        let sources = [SourceKind::Registration.into()];
        let open = Service::new(
            service(),
            ServiceSettings::default(),
            sources,
            Membership::default(),
        );
        let mut waiting = Waiting::default();
        let begins = Lines::of(|| {
            waiting.begin(&open, limit);
            waiting.begin(&open, limit);
        });
        assert_eq!(begins.len(), 1, "{begins:?}");
        assert!(begins[0].contains("waits up to 10s"), "{begins:?}");
        tokio::time::advance(Duration::from_secs(9)).await;
        let ends = Lines::of(|| waiting.end(&open, &planned(&[Probe::Good])));
        assert!(ends.len() == 1 && ends[0].contains("waited=9s"), "{ends:?}");
        assert!(Lines::of(|| waiting.end(&open, &planned(&[]))).is_empty());
    }
}
