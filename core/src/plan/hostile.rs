//! Whatever is reported, no list sends everything to one backend.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::weights::{PolicyChoice, RawReport, Report, ReportSource};

const BACKENDS: u8 = 5;

fn addr(host: u8) -> BackendAddr {
    format!("10.0.0.{host}:80").parse().unwrap()
}

/// Who says what, when, whether it is drained or not, and whether what is planned
/// goes out.
#[derive(Debug, Clone)]
struct Step {
    host: u8,
    numbers: [f64; 4],
    at: f64,
    drain: Option<bool>,
    publish: bool,
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => 0.0..2.0,
        3 => 0.0..1e4,
        1 => any::<f64>(),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(-1.0),
        1 => Just(0.0),
        1 => Just(1e-300),
        1 => Just(100.0),
    ]
}

/// Time goes on as it should, and now and then jumps.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let jump = prop_oneof![
        12 => 0.0f64..6.0,
        1 => -1000.0f64..1000.0,
        1 => 0.0f64..100_000.0,
    ];
    let numbers = [any_number(), any_number(), any_number(), any_number()];
    let drain = proptest::option::weighted(0.1, any::<bool>());
    let step = (1..=BACKENDS, numbers, jump, drain, any::<bool>());
    proptest::collection::vec(step, 1..150).prop_map(|steps| {
        let mut now = 0.0f64;
        let steps = steps.into_iter().map(
            |(host, numbers, jump, drain, publish): (u8, [f64; 4], f64, _, _)| {
                now = (now + jump).max(0.0);
                // At least three stay.
                let drain: Option<bool> = drain;
                let drain = drain.filter(|_| host <= 2);
                Step {
                    host,
                    numbers,
                    at: now,
                    drain,
                    publish,
                }
            },
        );
        steps.collect()
    })
}

fn any_choice() -> impl Strategy<Value = Option<PolicyChoice>> {
    let choices = PolicyChoice::BUILT_IN.map(Some);
    prop_oneof![Just(None), prop::sample::select(choices.to_vec())]
}

proptest! {
    #[test]
    fn no_reports_whatsoever_send_everything_to_one_backend(
        steps in steps(),
        policy in any_choice(),
        shadow in any_choice(),
        blend in 0.01..=1.0,
        ejection: bool,
        overload: bool,
    ) {
        let mut settings = ServiceSettings::default();
        settings.weights.policy = policy.unwrap_or_default();
        settings.weights.shadow = shadow;
        settings.weights.blend = blend;
        settings.weights.ejection = Some(ejection);
        settings.weights.slow_start = Some(Duration::ZERO);
        settings.overload = overload.then(|| OverloadDrops::new(0.5, 0.4).unwrap());
        let members = (1..=BACKENDS).map(|host| (addr(host), MemberFields::default()));
        let file = members.collect::<Contribution>();
        let mut contributions = BTreeMap::from([(SourceKind::File.into(), file)]);
        let mut state = PlanState::default();
        for step in steps {
            let [cpu, application, qps, eps] = step.numbers;
            let raw = RawReport {
                source: ReportSource::Registration,
                cpu_utilization: cpu,
                application_utilization: application,
                named: &[],
                qps,
                eps,
            };
            let now = Duration::from_secs_f64(step.at);
            let report = Report::new(&raw, &[]).ok();
            let report = report.map(|report| TimedReport { backend: addr(step.host), at: now, report });
            if let (Some(drain), Some(file)) = (step.drain, contributions.get_mut(&SourceKind::File.into())) {
                Arc::make_mut(&mut file.members).entry(addr(step.host)).or_default().drain = Some(drain);
            }
            let input = PlanInput {
                contributions: &contributions,
                settings: &settings,
                health: &BTreeMap::new(),
                reports: report.as_slice(),
                clients: &Clients::default(),
            };
            let plan = plan(input, &mut state, now);
            let GroupPlan::Servers(spec) = &plan.groups[0] else {
                panic!("a service with backends is never told to fall back");
            };
            let weights: Vec<f64> = spec.backends.iter().map(|backend| backend.weight).collect();
            let sum: f64 = weights.iter().sum();
            // One may be ejected of those that are not drained.
            prop_assert!(weights.len() >= 2, "{plan:?}");
            let others = (weights.len() - 1) as f64;
            // Ten times the mean of the others.
            let most = 10.0 / (10.0 + others);
            for weight in &weights {
                prop_assert!(weight.is_finite() && *weight > 0.0);
                prop_assert!(weight / sum <= most + 1e-9, "{weights:?}");
            }
            let dropped: f64 = spec.drops.iter().map(|drop| drop.share).sum();
            prop_assert!((0.0..=0.4).contains(&dropped));
            if step.publish {
                state.published(&plan, now);
            }
        }
    }
}
