//! What a plan promises.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::weights::{PolicyChoice, RawReport, ReportSource};

fn addr(host: u8) -> BackendAddr {
    format!("10.0.0.{host}:80").parse().unwrap()
}

/// A service, as its publisher drives it.
#[derive(Debug, Default)]
struct Service {
    state: PlanState,
    settings: ServiceSettings,
    contributions: BTreeMap<SourceId, Contribution>,
    health: BTreeMap<BackendAddr, HealthFields>,
    reports: Vec<TimedReport>,
}

impl Service {
    fn new(hosts: u8, policy: PolicyChoice) -> Self {
        let mut service = Self::default();
        service.settings.weights.policy = policy;
        let members = (1..=hosts).map(|host| (addr(host), MemberFields::default()));
        service
            .contributions
            .insert(SourceKind::File.into(), members.collect::<Contribution>());
        service
    }

    fn member(&mut self, host: u8) -> &mut MemberFields {
        let file = self
            .contributions
            .entry(SourceKind::File.into())
            .or_default();
        Arc::make_mut(&mut file.members)
            .entry(addr(host))
            .or_default()
    }

    fn probe(&mut self, host: u8, probe: Probe) {
        let health = HealthFields {
            probe,
            suspect: false,
        };
        self.health.insert(addr(host), health);
    }

    fn report(&mut self, host: u8, seconds: u64, load: f64, qps: f64) {
        let raw = RawReport {
            source: ReportSource::Registration,
            cpu_utilization: load,
            application_utilization: 0.0,
            named: &[],
            qps,
            eps: 0.0,
        };
        self.reports.push(TimedReport {
            backend: addr(host),
            at: Duration::from_secs(seconds),
            report: Report::new(&raw, &[]).unwrap(),
        });
    }

    fn plan(&mut self, seconds: u64) -> Plan {
        let input = PlanInput {
            contributions: &self.contributions,
            settings: &self.settings,
            health: &self.health,
            reports: &self.reports,
            clients: &Clients::default(),
        };
        let plan = plan(input, &mut self.state, Duration::from_secs(seconds));
        self.reports.clear();
        plan
    }

    fn publish(&mut self, seconds: u64) -> Plan {
        let plan = self.plan(seconds);
        self.state.published(&plan, Duration::from_secs(seconds));
        plan
    }
}

fn states(plan: &Plan) -> Vec<&'static str> {
    plan.members.iter().map(|m| m.state.as_str()).collect()
}

#[test]
fn a_static_service_is_not_asked_again_and_reports_move_nothing() {
    let mut service = Service::new(3, PolicyChoice::STATIC);
    let first = service.publish(0);
    assert_eq!(service.state.next(&service.settings), None);
    for seconds in (5..60).step_by(5) {
        for host in 1..=3 {
            service.report(host, seconds, 0.2 * f64::from(host), 100.0);
        }
        let plan = service.plan(seconds);
        assert_eq!(first.lane_to(&plan), None);
    }
}

#[test]
fn weights_that_a_policy_moved_are_in_no_hurry() {
    let mut service = Service::new(3, PolicyChoice::FEEDBACK);
    let first = service.publish(0);
    let next = service.state.next(&service.settings);
    assert!(next.is_some_and(|next| next <= Duration::from_secs(5)));
    let mut last = first.clone();
    for seconds in (5..40).step_by(5) {
        for host in 1..=3 {
            service.report(host, seconds, 0.2 * f64::from(host), 100.0);
        }
        last = service.plan(seconds);
    }
    assert_eq!(first.lane_to(&last), Some(Lane::Weights));
    assert!(last.members[0].factor > last.members[2].factor);
    service.member(2).weight = Some(Weight::new(2.0).unwrap());
    let changed = service.plan(40);
    assert_eq!(last.lane_to(&changed), Some(Lane::Change));
    service.member(1).drain = Some(true);
    let drained = service.plan(41);
    assert_eq!(changed.lane_to(&drained), Some(Lane::Removal));
}

#[test]
fn the_first_publish_counts_the_unprobed_as_healthy_and_a_later_joiner_not() {
    let mut service = Service::new(2, PolicyChoice::STATIC);
    service.settings.health_checks = true;
    let first = service.publish(0);
    assert_eq!(states(&first), ["serving", "serving"]);
    service.member(3);
    assert_eq!(states(&service.plan(1)), ["serving", "serving", "joining"]);
    service.probe(3, Probe::Good);
    let joined = service.plan(2);
    assert!(joined.members.iter().all(|member| member.listed));
}

#[test]
fn an_unhealthy_backend_leaves_by_the_removal_lane() {
    let mut service = Service::new(3, PolicyChoice::STATIC);
    let first = service.publish(0);
    service.probe(2, Probe::Refused);
    let plan = service.plan(1);
    assert_eq!(states(&plan), ["serving", "unhealthy", "serving"]);
    assert_eq!(first.lane_to(&plan), Some(Lane::Removal));
}

#[test]
fn slow_start_is_for_who_joins_a_running_service() {
    let mut service = Service::new(2, PolicyChoice::STATIC);
    service.settings.weights.slow_start = Some(Duration::from_secs(20));
    let first = service.publish(0);
    assert!(first.members.iter().all(|member| member.factor == 1.0));
    service.member(3);
    let joined = service.publish(10);
    assert_eq!(joined.members[2].factor, 0.1);
    let later = service.publish(20);
    assert_eq!(later.members[2].factor, 0.5);
    let settled = service.publish(30);
    assert_eq!(settled.members[2].factor, 1.0);
}

#[test]
fn a_restart_goes_on_with_the_weights_it_had() {
    let mut service = Service::new(4, PolicyChoice::FEEDBACK);
    for seconds in (0..120).step_by(5) {
        for host in 1..=4 {
            service.report(host, seconds, 0.2 * f64::from(host), 100.0);
        }
        service.publish(seconds);
    }
    let before = service.publish(120);
    let saved = service.state.save(Duration::from_secs(120));
    let ago = Duration::from_secs(2);
    service.state = PlanState::load(saved, &service.settings, Duration::ZERO, ago);
    assert_eq!(service.plan(0), before);
}
